//! How events are shown: an icon, a colour where somebody is warned or restricted, and who caused them.

/// How a type of event is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kind {
    /// Its icon.
    pub icon: &'static str,
    /// The class of the icon.
    pub class: &'static str,
}

const fn kind(icon: &'static str, class: &'static str) -> Kind {
    Kind { icon, class }
}

/// How an event of this type, without its version, is shown; what it says tells how a change went.
pub fn of(event_type: &str, says: &str) -> Kind {
    let becomes = says.rsplit("-> ").next().unwrap_or_default();
    match event_type {
        "usage_reported" | "late_usage_reported" | "missing_usage_filled" | "user_usage_reported" => {
            kind("gauge", "plain")
        }
        "policy_evaluated" => kind("activity", "plain"),
        "evaluation_failed" => kind("triangle-alert", "pause"),
        "restriction_changed" if becomes.starts_with("paused") => kind("pause", "pause"),
        "restriction_changed" if becomes.starts_with("slowed") => kind("chevrons-down", "slow"),
        "settings_commanded" => kind("terminal", "plain"),
        "stomp_message_sent" => kind("send", "plain"),
        "stomp_message_failed" => kind("circle-x", "pause"),
        "dispatch_unanswered" => kind("circle-question-mark", "warn"),
        "dispatch_resend_requested" | "restriction_resend_requested" | "notice_resent" => kind("refresh-cw", "plain"),
        "command_result_reported" if says.contains("a failure") => kind("circle-x", "pause"),
        "restriction_changed" | "command_result_reported" => kind("circle-check", "normal"),
        "command_result_unmatched" => kind("circle-question-mark", "plain"),
        "qos_confirmed" if says.ends_with("as is meant") => kind("circle-check", "normal"),
        "qos_confirmed" => kind("unlink", "warn"),
        "notice_sent" => kind("mail", "plain"),
        "notice_failed" => kind("mail", "pause"),
        "hold_placed" => kind("lock", "hold"),
        "hold_released" => kind("lock", "plain"),
        "limits_changed" => kind("arrow-up", "plain"),
        "retention_applied" => kind("history", "plain"),
        "setting_changed" => kind("settings", "plain"),
        "books_opened" | "books_closed" | "policy_created" | "policy_changed" | "policy_deleted" => {
            kind("scroll-text", "plain")
        }
        "resource_registered" | "resource_state_changed" | "resource_details_changed" => kind("layers", "plain"),
        other if other.starts_with("agent_") => kind("server", "plain"),
        other if other.starts_with("customer_") || other.starts_with("project_") => kind("users", "plain"),
        _ => kind("info", "plain"),
    }
}

/// Who caused something, by the role.
pub fn by(role: &str) -> &'static str {
    match role {
        "staff" => "by staff",
        "support" => "by support",
        "owner" => "by an owner",
        "member" => "by a member",
        "agent" => "by the site agent",
        "cli" => "by an operator at the server",
        _ => "automatic",
    }
}

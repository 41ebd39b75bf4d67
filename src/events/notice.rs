//! A resource's book about notices: to whom each was sent, or why it was not.
//!
//! Recipients are ids of the directory (people and addresses) or of webhook endpoints. No event contains an address,
//! not even in an error.

use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

use crate::domain::evaluate::Flags;
use crate::domain::ids::{EventId, NoticeId, PolicyId, UserId};

/// How a notice travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NoticeChannel {
    /// Mail to a person or an address.
    Mail,
    /// Signed POST to an endpoint of the site.
    Webhook,
}

impl NoticeChannel {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Mail, Self::Webhook];

    /// The word stored and shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Mail => "mail",
            Self::Webhook => "webhook",
        }
    }

    /// Reads the word.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|channel| channel.as_str() == text)
    }
}

/// What a notice is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NoticeTemplate {
    /// A notification threshold was reached.
    ThresholdReached,
    /// The resource was slowed down.
    SlowedDown,
    /// The resource was paused.
    Paused,
    /// The last restriction was lifted.
    Restored,
    /// The agent reported that commands failed.
    CommandFailed,
}

impl NoticeTemplate {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::ThresholdReached, Self::SlowedDown, Self::Paused, Self::Restored, Self::CommandFailed];

    /// The word stored and shown; also the name of the template's files.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ThresholdReached => "threshold_reached",
            Self::SlowedDown => "slowed_down",
            Self::Paused => "paused",
            Self::Restored => "restored",
            Self::CommandFailed => "command_failed",
        }
    }

    /// Reads the word.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|template| template.as_str() == text)
    }

    /// What a change of restrictions means to those it concerns: the strictest one that is new, or that the last one ended.
    pub fn of_restriction(from: Flags, to: Flags) -> Option<Self> {
        if to.paused && !from.paused {
            Some(Self::Paused)
        } else if !to.any() {
            from.any().then_some(Self::Restored)
        } else if to.downscaled && !to.paused && (from.paused || !from.downscaled) {
            Some(Self::SlowedDown)
        } else {
            None
        }
    }
}

/// A notice as far as it concerns one resource and one policy. A digest is one notice that several books know of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    /// The message; every attempt to deliver it has the same.
    pub notice: NoticeId,
    /// The policy that called for it; none where an operator's hold did and no policy applies.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub policy: Option<PolicyId>,
    /// What it is about.
    pub template: NoticeTemplate,
    /// Thresholds (percent) it tells of.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub thresholds: Vec<Decimal>,
    /// How it travelled.
    pub channel: NoticeChannel,
    /// To whom.
    pub recipients: Vec<UserId>,
    /// Attempts made, this one included.
    pub attempt: u32,
    /// The events that called for it.
    pub covers: Vec<EventId>,
}

/// A notice was handed over: the mail server or the endpoint has taken it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NoticeSent {
    /// Which message, about what, to whom, after how many attempts, and the events that called for it. Its fields stand
    /// beside each other.
    #[serde(flatten)]
    pub notice: Notice,
}

/// An operator has a notice sent again that was given up. Attempts are counted anew.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NoticeResent {
    /// The same, with the attempts that had failed.
    #[serde(flatten)]
    pub notice: Notice,
}

/// A notice was given up: it cannot be delivered, was refused, or all attempts failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NoticeFailed {
    /// The same.
    #[serde(flatten)]
    pub notice: Notice,
    /// What went wrong, free of addresses.
    pub error: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_of_restrictions_is_told_by_what_is_new() {
        let flags = |text: &str| Flags { paused: text.contains('p'), downscaled: text.contains('d') };
        for (from, to, template) in [
            ("", "d", Some(NoticeTemplate::SlowedDown)),
            ("", "p", Some(NoticeTemplate::Paused)),
            ("", "pd", Some(NoticeTemplate::Paused)),
            ("d", "pd", Some(NoticeTemplate::Paused)),
            ("pd", "d", Some(NoticeTemplate::SlowedDown)),
            ("p", "d", Some(NoticeTemplate::SlowedDown)),
            ("pd", "p", None),
            ("p", "pd", None),
            ("d", "", Some(NoticeTemplate::Restored)),
            ("pd", "", Some(NoticeTemplate::Restored)),
        ] {
            assert_eq!(NoticeTemplate::of_restriction(flags(from), flags(to)), template, "{from:?} to {to:?}");
        }
    }
}

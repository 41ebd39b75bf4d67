//! The site agent's reports on its commands.

use axum::http::StatusCode;
use serde_json::json;
use utoipa::ToSchema;

use super::TAG;
use crate::commands::allocation::AllocationCommand;
use crate::domain::ids::{DispatchId, PolicyId, ResourceId};
use crate::domain::text::{self, cleaned};
use crate::events::allocation::{CommandReport, ExecutionMode};
use crate::http::context::{AnyLength, Context, Id};
use crate::http::error::{ApiError, ApiResult, ErrorDetail, ErrorFields};
use crate::http::fields::{self, Fields};
use crate::http::shorten::CUT;
use crate::http::taken::{IdInput, ModeInput};

/// Commands of one report that are kept; a mark follows them if there were more.
const COMMANDS_MAX: usize = 1_000;
/// Characters of one command, or of the error message, that are kept.
const TEXT_CHARS_MAX: usize = 10_000;
/// Bytes of all commands together that are kept, as the event spells them.
const COMMANDS_BYTES_MAX: usize = 2 << 20;
/// The same where the events are on a server that takes appends of at most 1 MiB, as `EventStoreDB` does.
const COMMANDS_BYTES_MAX_ON_SERVER: usize = 900 << 10;

/// A report on commands.
#[derive(Debug, ToSchema)]
#[schema(as = CommandResultRequest)]
#[expect(dead_code, reason = "describes a body that is read field by field")]
pub struct Request {
    /// The resource that they were for.
    resource_uuid: IdInput,
    /// Whether they worked.
    success: bool,
    /// What went wrong.
    error_message: Option<String>,
    /// `production` (default) or `emulator`.
    #[schema(nullable = false)]
    mode: Option<ModeInput>,
    /// The commands that ran. Sluice keeps 1,000 commands, 10,000 characters of each and 2 MiB in total, and marks cuts
    /// with `… [cut]`.
    commands_executed: Option<Vec<String>>,
    /// The dispatch that it answers, if the agent knows it.
    dispatch_uuid: Option<IdInput>,
}

/// What a tool printed may hold anything; a report is not refused for it.
fn kept(given: &str) -> String {
    if given.chars().nth(TEXT_CHARS_MAX).is_none() {
        return cleaned(given, TEXT_CHARS_MAX);
    }
    // It ends with the usual mark for what was cut, and says in words what that means.
    cleaned(given, TEXT_CHARS_MAX - CUT.len()) + CUT.trim_start_matches(text::CUT)
}

/// The commands that are kept of a report, with a mark where something is missing.
fn kept_commands(given: &[String], bytes_max: usize) -> Vec<String> {
    let mut room = bytes_max;
    let mut commands = Vec::with_capacity(given.len());
    for command in given {
        let command = kept(command);
        // Quotes are part of how it is spelled, and a comma follows.
        let bytes = serde_json::to_string(&command).map_or(usize::MAX, |spelled| spelled.len() + 1);
        if bytes > room {
            commands.push(CUT.to_owned());
            break;
        }
        room -= bytes;
        commands.push(command);
    }
    commands
}

fn mode(word: &str) -> Option<ExecutionMode> {
    [ExecutionMode::Production, ExecutionMode::Emulator].into_iter().find(|mode| mode.as_str() == word)
}

fn read(fields: &mut Fields, bytes_max: usize) -> Result<(ResourceId, Option<DispatchId>, CommandReport), ApiError> {
    let resource = fields.required("resource_uuid", fields::uuid).map(ResourceId::from);
    let success = fields.required("success", fields::boolean);
    let error_message = fields.nullable("error_message", fields::raw_text).flatten().unwrap_or_default();
    let mode = fields.optional("mode", fields::choice(mode, "production, emulator")).unwrap_or_default();
    // As many as were left of them when the body came in.
    let commands = fields.nullable("commands_executed", fields::list(usize::MAX, fields::raw_text));
    let commands = commands.flatten().unwrap_or_default();
    let dispatch = fields.nullable("dispatch_uuid", fields::uuid).flatten().map(DispatchId::from);
    fields.check()?;
    // Both were required just now.
    let (Some(resource), Some(success)) = (resource, success) else { return Err(ApiError::NotFound) };
    let commands_executed = kept_commands(&commands, bytes_max);
    Ok((resource, dispatch, CommandReport { success, error_message: kept(&error_message), mode, commands_executed }))
}

/// Report the results of commands. A report is never refused for its length or its rate: what is too long in it is cut.
#[utoipa::path(post, path = "/api/marketplace-slurm-periodic-usage-policies/{uuid}/report-command-result/", tag = TAG,
    params(("uuid" = String, Path)), request_body = Request,
    responses((status = 200, body = ErrorDetail), (status = 400, body = ErrorFields), (status = 403, body = ErrorDetail),
        (status = 404, body = ErrorDetail)))]
pub async fn report_command_result(
    ctx: Context,
    Id(policy): Id<PolicyId>,
    AnyLength(mut fields): AnyLength<COMMANDS_BYTES_MAX, COMMANDS_MAX>,
) -> ApiResult {
    // Of a deleted policy too: what released its restrictions went out under its name, and is answered under it.
    let policy_facts = super::logs::known(&ctx, policy).await?;
    {
        let state = ctx.app.registry.read();
        if !ctx.visibility_in(&state).offering_id(policy_facts.offering, &state) {
            return Err(ApiError::NotFound);
        }
    }
    let on_server = ctx.app.options.event_store.is_some();
    let bytes_max = if on_server { COMMANDS_BYTES_MAX_ON_SERVER } else { COMMANDS_BYTES_MAX };
    let (resource, dispatch, report) = read(&mut fields, bytes_max)?;
    let offering = ctx.app.registry.read().resource(resource).map(|entry| entry.offering);
    match offering {
        Some(offering) if offering == policy_facts.offering => {}
        // Only callers who see the policy may know that it exists.
        Some(_) if ctx.visibility().all => {
            return Err(ApiError::field("resource_uuid", "The resource is not one of the policy's offering."));
        }
        _ => return Err(ApiError::field("resource_uuid", "Resource not found.")),
    }
    let command = AllocationCommand::ReportCommandResult { policy, dispatch, report };
    let executed = ctx.app.allocations.execute(resource, &command, &ctx.meta(None)).await?;
    ctx.visible(executed.position).await;
    ctx.one(StatusCode::OK, &json!({ "detail": "Command result recorded." }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_long_ends_with_a_mark() {
        assert_eq!(kept(&"x".repeat(TEXT_CHARS_MAX)), "x".repeat(TEXT_CHARS_MAX));
        let cut = kept(&"ä".repeat(TEXT_CHARS_MAX + 1));
        assert!(cut.ends_with("ä… [cut]") && cut.chars().count() <= TEXT_CHARS_MAX, "{}", cut.chars().count());
        let given = vec!["\u{7f}".repeat(100); 10];
        let commands = kept_commands(&given, 1_000);
        assert_eq!((commands.len(), commands.last().map(String::as_str)), (4, Some(CUT)));
        assert_eq!(kept_commands(&given, 1 << 20).len(), 10);
    }
}

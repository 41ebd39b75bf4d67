//! What the site agent says of the commands it was told.

use axum::http::StatusCode;
use serde_json::json;
use utoipa::ToSchema;

use super::TAG;
use crate::commands::allocation::AllocationCommand;
use crate::domain::ids::{DispatchId, PolicyId, ResourceId};
use crate::events::allocation::{CommandReport, ExecutionMode};
use crate::http::context::{Body, Context, Id};
use crate::http::error::{ApiError, ApiResult, ErrorDetail, ErrorFields};
use crate::http::fields::{self, Fields};

/// Commands of one report at most.
const COMMANDS_MAX: usize = 1_000;
/// Characters of one command, or of the error message, that are kept.
const TEXT_CHARS_MAX: usize = 10_000;

/// A report on commands.
#[derive(Debug, ToSchema)]
#[schema(as = CommandResultRequest)]
#[expect(dead_code, reason = "describes a body that is read field by field")]
pub struct Request {
    /// The resource that they were for.
    resource_uuid: String,
    /// Whether they worked.
    success: bool,
    /// What went wrong.
    error_message: Option<String>,
    /// `production` (default) or `emulator`.
    mode: Option<String>,
    /// What was run.
    commands_executed: Option<Vec<String>>,
    /// The dispatch that it answers, where the agent knows it.
    dispatch_uuid: Option<String>,
}

fn shortened(text: String) -> String {
    if text.chars().count() > TEXT_CHARS_MAX { text.chars().take(TEXT_CHARS_MAX).collect() } else { text }
}

fn mode(word: &str) -> Option<ExecutionMode> {
    [ExecutionMode::Production, ExecutionMode::Emulator].into_iter().find(|mode| mode.as_str() == word)
}

fn read(fields: &mut Fields) -> Result<(ResourceId, Option<DispatchId>, CommandReport), ApiError> {
    let resource = fields.required("resource_uuid", fields::uuid).map(ResourceId::from);
    let success = fields.required("success", fields::boolean);
    let error_message = fields.nullable("error_message", fields::text).flatten().unwrap_or_default();
    let mode = fields.optional("mode", fields::choice(mode, "production, emulator")).unwrap_or_default();
    let commands = fields.nullable("commands_executed", fields::list(fields::text)).flatten().unwrap_or_default();
    if commands.len() > COMMANDS_MAX {
        fields.errors.add(
            "commands_executed",
            format!("{} commands are given: at most {COMMANDS_MAX} are allowed.", commands.len()),
        );
    }
    let dispatch = fields.nullable("dispatch_uuid", fields::uuid).flatten().map(DispatchId::from);
    fields.check()?;
    // Both were required just now.
    let (Some(resource), Some(success)) = (resource, success) else { return Err(ApiError::NotFound) };
    let commands_executed = commands.into_iter().map(shortened).collect();
    Ok((
        resource,
        dispatch,
        CommandReport { success, error_message: shortened(error_message), mode, commands_executed },
    ))
}

/// Report what became of commands.
#[utoipa::path(post, path = "/api/marketplace-slurm-periodic-usage-policies/{uuid}/report-command-result/", tag = TAG,
    params(("uuid" = String, Path)), request_body = Request,
    responses((status = 200, body = ErrorDetail), (status = 400, body = ErrorFields), (status = 403, body = ErrorDetail),
        (status = 404, body = ErrorDetail)))]
pub async fn report_command_result(ctx: Context, Id(policy): Id<PolicyId>, Body(mut fields): Body) -> ApiResult {
    // Of a deleted policy too: what released its restrictions went out under its name, and is answered under it.
    let policy_facts = super::logs::known(&ctx, policy).await?;
    {
        let state = ctx.app.registry.read();
        if !ctx.sight_in(&state).offering_id(policy_facts.offering, &state) {
            return Err(ApiError::NotFound);
        }
    }
    let (resource, dispatch, report) = read(&mut fields)?;
    let offering = ctx.app.registry.read().resource(resource).map(|entry| entry.offering);
    match offering {
        Some(offering) if offering == policy_facts.offering => {}
        Some(_) => return Err(ApiError::field("resource_uuid", "The resource is not one of the policy's offering.")),
        None => return Err(ApiError::field("resource_uuid", "Resource not found.")),
    }
    let command = AllocationCommand::ReportCommandResult { policy, dispatch, report };
    let executed = ctx.app.allocations.execute(resource, &command, &ctx.meta(None)).await?;
    ctx.visible(executed.position).await;
    ctx.one(StatusCode::OK, &json!({ "detail": "Command result recorded." }))
}

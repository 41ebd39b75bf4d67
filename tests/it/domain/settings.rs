//! From allocations to settings on the wire, and from settings to command text.

use rust_decimal::Decimal;
use sluice::domain::carryover::{CarryoverDetails, CarryoverInputs, PreviousBase};
use sluice::domain::sacctmgr::commands;
use sluice::domain::settings::{AgentSettings, SettingsInputs};
use sluice::domain::tres::Weights;

use crate::support::cases::{CommandsCase, SettingsCase, load};

#[test]
fn allocations_become_the_worked_settings() {
    for case in load::<SettingsCase>("settings") {
        let terms = case.terms.whole();
        let carryover = CarryoverDetails::of(&CarryoverInputs {
            formula: &terms.carryover_formula(),
            enabled: terms.carryover_enabled,
            period: case.period,
            existed_before: case.existed_before,
            base: &case.base,
            previous_base: PreviousBase { amounts: &case.base, first_known: false },
            previous_usage: &case.previous_usage,
        });
        let settings = AgentSettings::of(&SettingsInputs {
            limit_type: terms.limit_type,
            weights: &Weights::effective(terms.tres_billing_enabled, &terms.tres_billing_weights),
            grace_ratio: terms.grace_ratio,
            effective: &carryover.effective(&case.base),
            components: &case.components,
            baseline_minutes: &case.baseline_minutes,
            fairshare_divisor: Decimal::from(3),
            reset_raw_usage: case.reset_raw_usage,
            carryover: &carryover,
        });
        assert_eq!(settings.to_wire(), case.expect, "{}", case.name);
    }
}

#[test]
fn settings_become_the_worked_commands() {
    for case in load::<CommandsCase>("commands") {
        let settings = AgentSettings {
            fairshare: case.settings.fairshare,
            limit_type: case.settings.limit_type,
            limits: case.settings.limits.into_iter().collect(),
            reset_raw_usage: case.settings.reset_raw_usage,
            ..AgentSettings::default()
        };
        let qos = case.qos.as_ref().map(|qos| (qos.name.as_str(), qos.reason.as_str()));
        let commands = commands(&case.account, &settings, qos);
        assert_eq!(commands.len(), case.expect.len(), "{}", case.name);
        for (command, expected) in commands.iter().zip(&case.expect) {
            assert_eq!(command.command_type.wire_name(), expected.command_type, "{}", case.name);
            assert_eq!(command.shell_command, expected.command, "{}", case.name);
            assert_eq!(command.parameters, expected.parameters, "{}", case.name);
            if let Some(description) = &expected.description {
                assert_eq!(&command.description, description, "{}", case.name);
            }
        }
    }
}

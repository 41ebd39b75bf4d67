//! Valid and invalid policies, their meaning, and their warnings.

use serde_json::json;

use super::*;

fn dec(text: &str) -> Decimal {
    text.parse().unwrap()
}

fn terms() -> PolicyTerms {
    PolicyTerms { actions: [Action::RequestPausing].into(), ..PolicyTerms::default() }
}

fn mappings(entries: &[(&str, &str)]) -> BTreeMap<String, TresMapping> {
    let mapping = |tres: &&str| TresMapping { tres: (*tres).to_owned(), ..TresMapping::of_type("") };
    entries.iter().map(|(component, tres)| ((*component).to_owned(), mapping(tres))).collect()
}

#[test]
fn lists_of_actions_are_read_in_any_order_and_written_in_one() {
    for (list, written) in [
        ("request_pausing,notify_organization_owners", "notify_organization_owners,request_slurm_resource_pausing"),
        ("request_downscaling,request_slurm_resource_downscaling", "request_slurm_resource_downscaling"),
        (
            "block_creation_of_new_resources,notify_external_user",
            "notify_external_user,block_creation_of_new_resources",
        ),
    ] {
        assert_eq!(Action::list_to_string(&Action::parse_list(list).unwrap()), written);
    }
}

#[test]
fn lists_with_anything_else_are_refused() {
    for list in [
        "notify_organization_owners,non_existent_action",
        "notify_organization_owners, notify_external_user",
        "notify_organization_owners,",
        "Notify_organization_owners",
        " ",
    ] {
        let message = Action::parse_list(list).unwrap_err().to_string();
        assert!(message.contains("includes unavailable actions"), "{message}");
        assert!(message.contains("request_slurm_resource_pausing"), "{message}");
    }
    let message = Action::parse_list("").unwrap_err().to_string();
    assert!(message.contains("At least one action is required"), "{message}");
}

#[test]
fn defaults_need_only_an_action() {
    let defaults = PolicyTerms::default();
    assert_eq!(defaults.validate().unwrap_err().0.into_keys().collect::<Vec<_>>(), ["actions"]);
    assert_eq!(terms().validate(), Ok(()));
    assert_eq!(defaults.grace_limit_percent(), dec("120"));
    assert_eq!(defaults.carryover_formula(), Formula::DecayedUsageOfPrevious { half_life_days: dec("15") });
    assert_eq!((defaults.period, defaults.limit_type), (PeriodKind::Quarter, LimitType::GrpTresMins));
}

#[test]
fn each_parameter_has_its_range() {
    type Change = fn(&mut PolicyTerms, Decimal);
    let cases: [(&str, Change, &[&str], &[&str]); 7] = [
        (
            "component_limits_set",
            |t, v| _ = t.component_limits.insert("cpu".into(), v),
            &["0", "0.5", "1000000000000000"],
            &["-1", "1000000000000001", "0.1234567890123"],
        ),
        (
            "tres_billing_weights",
            |t, v| _ = t.tres_billing_weights.insert("CPU".into(), v),
            &["0", "0.001953125", "1000000000"],
            &["-0.1", "1000000001"],
        ),
        (
            "fairshare_decay_half_life",
            |t, v| t.fairshare_decay_half_life = v,
            &["0.5", "15", "1000000"],
            &["0", "-1", "1000001"],
        ),
        ("carryover_factor", |t, v| t.carryover_factor = Some(v), &["0", "12.5", "100"], &["-1", "100.1"]),
        ("grace_ratio", |t, v| t.grace_ratio = v, &["0", "0.14", "1"], &["-0.01", "1.01"]),
        (
            "notification_threshold",
            |t, v| t.notification_thresholds = vec![v],
            &["1", "99.5", "100"],
            &["0", "0.99", "100.5"],
        ),
        (
            "progressive_thresholds",
            |t, v| t.progressive_thresholds = vec![Rung { percent: v, effect: Effect::Pause, qos: None }],
            &["0.01", "150", "10000"],
            &["0", "-5", "10001"],
        ),
    ];
    for (field, change, allowed, refused) in cases {
        for value in allowed {
            let mut terms = terms();
            change(&mut terms, dec(value));
            assert_eq!(terms.validate(), Ok(()), "{field} = {value}");
        }
        for value in refused {
            let mut terms = terms();
            change(&mut terms, dec(value));
            let errors = terms.validate().unwrap_err().0;
            assert_eq!(errors.keys().collect::<Vec<_>>(), [field], "{field} = {value}");
            assert!(errors[field][0].contains(value), "{:?} does not name {value}", errors[field]);
        }
    }
}

#[test]
fn lists_are_checked_for_repetition_emptiness_and_names() {
    let rung = |percent, effect, qos: Option<&str>| Rung { percent: dec(percent), effect, qos: qos.map(str::to_owned) };
    let cases = [
        (PolicyTerms { notification_thresholds: vec![], ..terms() }, "notification_threshold", "1 to 100"),
        (
            PolicyTerms { notification_thresholds: vec![dec("80"), dec("80.0")], ..terms() },
            "notification_threshold",
            "more than once",
        ),
        (
            PolicyTerms {
                progressive_thresholds: vec![rung("90", Effect::Pause, None), rung("90", Effect::Pause, Some("x"))],
                ..terms()
            },
            "progressive_thresholds",
            "pause at 90",
        ),
        (
            PolicyTerms { progressive_thresholds: vec![rung("90", Effect::Notify, Some("slow"))], ..terms() },
            "progressive_thresholds",
            "only notifies",
        ),
        (
            PolicyTerms { progressive_thresholds: vec![rung("90", Effect::Pause, Some("a b"))], ..terms() },
            "progressive_thresholds",
            "no name of a QoS",
        ),
        (
            PolicyTerms { component_limits: [(" ".to_owned(), dec("1"))].into(), ..terms() },
            "component_limits_set",
            "no type",
        ),
    ];
    for (terms, field, part) in cases {
        let errors = terms.validate().unwrap_err().0;
        assert_eq!(errors.len(), 1, "{errors:?}");
        assert_eq!(errors[field].len(), 1, "{errors:?}");
        assert!(errors[field][0].contains(part), "{errors:?}");
    }
}

#[test]
fn normalized_terms_have_their_lists_in_order() {
    let terms = PolicyTerms { notification_thresholds: vec![dec("95"), dec("50"), dec("80")], ..terms() }.normalized();
    assert_eq!(terms.notification_thresholds, [dec("50"), dec("80"), dec("95")]);
}

#[test]
fn percents_follow_from_actions_and_grace() {
    let with = |actions: &str| PolicyTerms {
        actions: Action::parse_list(actions).unwrap(),
        grace_ratio: dec("0.14"),
        ..PolicyTerms::default()
    };
    for (actions, lowest, pause) in [
        ("notify_organization_owners,request_pausing", "80", Some("114")),
        ("block_creation_of_new_resources", "100", None),
        ("request_pausing", "114", Some("114")),
        ("request_downscaling,block_creation_of_new_resources", "100", None),
    ] {
        let terms = with(actions);
        assert_eq!(terms.lowest_action_percent(), Some(dec(lowest)), "{actions}");
        assert_eq!(terms.pause_percent(), pause.map(dec), "{actions}");
    }
    assert_eq!(PolicyTerms::default().lowest_action_percent(), None);
}

#[test]
fn a_factor_chooses_the_capped_formula() {
    let terms = PolicyTerms { carryover_factor: Some(dec("0")), ..terms() };
    assert_eq!(terms.carryover_formula(), Formula::CappedUnusedOfPrevious { factor_percent: dec("0") });
    let current = PolicyTerms { carryover_base: Some(CarryoverBase::Current), ..terms };
    assert_eq!(current.carryover_formula(), Formula::CappedUnused { factor_percent: dec("0") });
}

#[test]
fn usual_terms_are_not_warned_about() {
    let warnings = terms().warnings(&mappings(&[("node_hours", "node"), ("gpu", "gres/gpu")]), &QosNames::default());
    assert_eq!(warnings, Vec::<String>::new());
}

#[test]
fn unusual_terms_are_warned_about() {
    let rung = |percent, effect, qos: Option<&str>| Rung { percent: dec(percent), effect, qos: qos.map(str::to_owned) };
    let progressive = |rungs: Vec<Rung>| PolicyTerms {
        qos_strategy: QosStrategy::Progressive,
        progressive_thresholds: rungs,
        ..terms()
    };
    let cases = [
        (PolicyTerms { limit_type: LimitType::GrpTres, ..terms() }, "ignores GrpTRES"),
        (PolicyTerms { raw_usage_reset: false, ..terms() }, "PriorityUsageResetPeriod"),
        (progressive(vec![rung("90", Effect::Downscale, None)]), "needs the action request_slurm_resource_downscaling"),
        (progressive(vec![rung("90", Effect::Pause, Some("dead"))]), "three QoS"),
        (PolicyTerms { progressive_thresholds: vec![rung("90", Effect::Pause, None)], ..terms() }, "have no effect"),
    ];
    for (terms, part) in cases {
        let warnings = terms.warnings(&BTreeMap::new(), &QosNames::default());
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        assert!(warnings[0].contains(part), "{warnings:?}");
    }
    let warnings = terms().warnings(&mappings(&[("node_hours", "node_hours")]), &QosNames::default());
    assert!(warnings.len() == 1 && warnings[0].contains("no TRES"), "{warnings:?}");
    let same_name = progressive(vec![rung("90", Effect::Pause, Some("blocked"))]);
    assert_eq!(same_name.warnings(&BTreeMap::new(), &QosNames::default()), Vec::<String>::new());
}

#[test]
fn terms_survive_json_with_decimals_as_text() {
    let terms = PolicyTerms {
        carryover_factor: Some(dec("50")),
        component_limits: [("cpu".to_owned(), dec("1.5"))].into(),
        ..terms()
    };
    let written = serde_json::to_value(&terms).unwrap();
    for (key, value) in [
        ("actions", json!(["request_slurm_resource_pausing"])),
        ("component_limits", json!({"cpu": "1.5"})),
        ("period", json!("quarter")),
        ("limit_type", json!("GrpTRESMins")),
        ("grace_ratio", json!("0.2")),
        ("notification_thresholds", json!(["80"])),
        ("carryover_factor", json!("50")),
        ("qos_strategy", json!("threshold")),
    ] {
        assert_eq!(written[key], value, "{key}");
    }
    assert_eq!(serde_json::from_value::<PolicyTerms>(written).unwrap(), terms);
}

#[test]
fn names_of_limit_types_and_strategies() {
    for (limit_type, name, key) in [
        (LimitType::GrpTresMins, "GrpTRESMins", "grp_tres_mins"),
        (LimitType::MaxTresMins, "MaxTRESMins", "max_tres_mins"),
        (LimitType::GrpTres, "GrpTRES", "grp_tres"),
    ] {
        assert_eq!((limit_type.wire_name(), limit_type.settings_key()), (name, key));
        assert_eq!(LimitType::from_name(name), Some(limit_type));
        assert_eq!(serde_json::to_value(limit_type).unwrap(), name);
    }
    assert_eq!(LimitType::from_name("grptresmins"), None);
    assert_eq!(QosStrategy::from_name("progressive"), Some(QosStrategy::Progressive));
    assert_eq!(QosStrategy::from_name("other"), None);
}

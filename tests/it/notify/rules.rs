//! What is told and how often: once per threshold, period and raise; digests; restrictions and what ends them.

use sluice::commands::allocation::AllocationCommand;
use sluice::domain::ids::HoldId;
use sluice::events::allocation::{CommandReport, ExecutionMode, HoldKind};
use sluice::events::notice::NoticeTemplate::{Paused, Restored, SlowedDown, ThresholdReached};
use sluice::notify::{MailOptions, NotifyOptions};
use uuid::Uuid;

use super::support::Site;
use crate::support::world::{ALL_THREE, dec, terms};

fn subjects(site: &Site) -> Vec<String> {
    site.mails().into_iter().map(|mail| mail.subject).collect()
}

#[tokio::test]
async fn a_threshold_is_told_once_and_again_after_a_top_up_or_in_a_new_period() {
    let site = Site::new(terms("notify_organization_owners"), NotifyOptions::default()).await;
    site.report("climate", "810").await;
    assert!(site.mails().is_empty(), "nothing leaves before the minute of the digest is over");
    site.pass(60).await;
    let first = site.mails();
    assert_eq!(first.len(), 1);
    assert_eq!(first[0].subject, "climate on hpc1: 80 % of the allocation is used");
    let text = &first[0].raw;
    for said in ["Dear alice the First,", "81 % =3D 810 of 1000 node", "810 of 1000 (81 %)", "2026-03", "HPC 1"] {
        assert!(text.contains(said), "{said} is not in {text}");
    }

    for usage in ["820", "700", "830"] {
        site.report("climate", usage).await;
        site.pass(120).await;
    }
    assert_eq!(site.mails().len(), 1, "the same threshold is told once");

    site.limit("climate", "900").await;
    site.pass(120).await;
    assert_eq!(site.mails().len(), 1, "a cut does not tell again");
    site.limit("climate", "1010").await;
    site.pass(120).await;
    assert_eq!(site.mails().len(), 2, "a raise does, while the threshold is reached");

    site.go_to("2026-04-03T00:00:00Z").await;
    assert_eq!(site.mails().len(), 2);
    site.report("climate", "900").await;
    site.pass(60).await;
    assert_eq!(site.mails().len(), 3, "a new period begins anew");
    let outcomes = site.outcomes().await;
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 3);
    let sent = outcomes[0].as_ref().unwrap();
    assert_eq!((sent.notice.thresholds.as_slice(), sent.notice.attempt), ([dec("80")].as_slice(), 1));
    assert_eq!((sent.notice.policy, sent.notice.template), (Some(Site::policy()), ThresholdReached));
}

#[tokio::test]
async fn several_resources_of_one_owner_within_a_minute_go_in_one_mail() {
    let site = Site::new(terms("notify_organization_owners"), NotifyOptions::default()).await;
    site.report("climate", "810").await;
    site.pass(30).await;
    site.report("ocean", "950").await;
    site.pass(29).await;
    assert!(site.mails().is_empty());
    site.pass(1).await;
    assert_eq!(subjects(&site), ["2 notices on 2 allocations"]);
    let mail = &site.mails()[0];
    assert!(mail.raw.contains("climate on hpc1") && mail.raw.contains("ocean on hpc1"), "{}", mail.raw);
    let outcomes = site.outcomes().await;
    let notices: Vec<_> = outcomes.iter().map(|outcome| outcome.as_ref().unwrap().notice.notice).collect();
    assert_eq!(notices.len(), 2, "each book has its own record");
    assert_eq!(notices[0], notices[1], "of the same mail");

    site.report("ocean", "700").await;
    site.limit("ocean", "1100").await;
    site.report("ocean", "1000").await;
    site.pass(60).await;
    assert_eq!(site.mails().len(), 2, "what comes after the minute goes in a mail of its own");
}

#[tokio::test]
async fn restrictions_are_told_when_they_begin_and_when_they_end() {
    let site = Site::new(terms(ALL_THREE), NotifyOptions::default()).await;
    for usage in ["1000", "1200", "1100", "900"] {
        site.report("climate", usage).await;
        site.pass(61).await;
    }
    let mut told: Vec<_> = site.outcomes().await.into_iter().map(|outcome| outcome.unwrap().notice.template).collect();
    told.sort();
    assert_eq!(told, [ThresholdReached, SlowedDown, SlowedDown, Paused, Restored]);
    let mails = site.mails();
    assert_eq!(mails.len(), 4, "threshold and slow-down came together");
    assert!(mails.iter().any(|mail| mail.subject == "2 notices on climate on hpc1"));
    assert!(mails.iter().any(|mail| mail.subject == "climate on hpc1: back to normal"));
}

#[tokio::test]
async fn an_operators_hold_is_told_without_numbers() {
    let site = Site::new(terms("notify_organization_owners"), NotifyOptions::default()).await;
    let hold = HoldId::from(Uuid::from_u128(7));
    let place = AllocationCommand::PlaceHold {
        hold,
        kind: HoldKind::Pause,
        reason: "for the operators only".into(),
        ticket: None,
        expires_at: None,
        public: false,
    };
    site.execute("climate", place).await;
    site.app.settle().await.unwrap();
    site.pass(60).await;
    let mail = &site.mails()[0];
    assert!(mail.raw.contains("an operator has paused the allocation"), "{}", mail.raw);
    assert!(!mail.raw.contains("for the operators only") && !mail.raw.contains("How this comes about"));
}

#[tokio::test]
async fn a_failed_command_is_told_once_per_dispatch() {
    let site = Site::new(terms("notify_organization_owners,request_downscaling"), NotifyOptions::default()).await;
    for _ in 0..2 {
        let report = CommandReport {
            success: false,
            error_message: "sacctmgr: no such account".into(),
            mode: ExecutionMode::Production,
            commands_executed: Vec::new(),
        };
        let dispatch = site.app.allocations.book(crate::support::world::resource_id("climate")).await.unwrap();
        let dispatch = Some(dispatch.dispatches[0].dispatch);
        site.execute("climate", AllocationCommand::ReportCommandResult { policy: Site::policy(), dispatch, report })
            .await;
        site.app.settle().await.unwrap();
        site.pass(120).await;
    }
    let mails = site.mails();
    assert_eq!(mails.len(), 1);
    assert!(mails[0].raw.contains("sacctmgr: no such account"), "{}", mails[0].raw);
}

#[tokio::test]
async fn mails_say_when_the_next_thresholds_are_due_whom_to_ask_and_where_to_look() {
    let mail = MailOptions {
        contact: Some("hpc-support@site.example".into()),
        link: Some("https://sluice.example/resources/{uuid}".into()),
        ..MailOptions::default()
    };
    let site = Site::new(terms(ALL_THREE), NotifyOptions { mail, ..NotifyOptions::default() }).await;
    site.go_to("2026-03-16T12:00:00Z").await;
    site.report("climate", "800").await;
    site.pass(60).await;
    let mail = &site.mails()[0].raw;
    // 800 in 16 days is 50 a day: 200 more take 4 days, 400 more 8.
    for said in [
        "100 % (1000), slowed down: expected on 2026-03-20",
        "120 % (1200), paused: expected on 2026-03-24",
        "Questions: hpc-support@site.example",
        &format!("Details: https://sluice.example/resources/{}", crate::support::world::resource_id("climate")),
    ] {
        assert!(mail.contains(said), "{said} is not in {mail}");
    }
}

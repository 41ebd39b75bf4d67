//! Confirmations: what happens, to whom, and why. They are dialogs, and pages of their own without script.

use askama::Template;

use super::assets;
use super::frame::{Frame, Section};
use super::problem::Problem;
use super::visit::{Shown, Visit, page};

/// What is to be confirmed.
#[derive(Template)]
#[template(path = "confirm_part.html")]
pub struct Confirm {
    /// The title.
    pub title: String,
    /// What happens, and to whom.
    pub sentences: Vec<String>,
    /// What the button says.
    pub act: String,
    /// It takes something away.
    pub danger: bool,
    /// Where the form goes.
    pub action: String,
    /// Where it came from.
    pub back: String,
    /// What the form sends beside the reason.
    pub hidden: Vec<(&'static str, String)>,
    /// Why, as it was typed; none where no reason is kept.
    pub reason: Option<String>,
    /// What went wrong.
    pub problem: Option<Problem>,
    /// What a form has to send.
    pub csrf: String,
    /// It is in a dialog.
    pub in_dialog: bool,
    /// Address of the icons.
    pub icons: &'static str,
}

/// The same as a page.
#[derive(Template)]
#[template(path = "confirm.html")]
struct ConfirmPage {
    frame: Frame,
    part: Confirm,
}

impl Confirm {
    /// A confirmation at the address that was asked for.
    pub fn of(visit: &Visit, title: impl Into<String>, act: impl Into<String>, back: impl Into<String>) -> Self {
        Self {
            title: title.into(),
            sentences: Vec::new(),
            act: act.into(),
            danger: false,
            action: visit.path.clone(),
            back: back.into(),
            hidden: Vec::new(),
            reason: None,
            problem: None,
            csrf: visit.csrf.clone(),
            in_dialog: visit.fragment,
            icons: assets::address("icons.svg"),
        }
    }

    /// The same with a reason, which is kept.
    #[must_use]
    pub fn with_reason(mut self, visit: &Visit) -> Self {
        self.reason = Some(visit.form.get("reason").unwrap_or_default().to_owned());
        self
    }

    /// The same with a sentence more.
    #[must_use]
    pub fn saying(mut self, sentence: impl Into<String>) -> Self {
        self.sentences.push(sentence.into());
        self
    }

    /// The page, or the dialog's content.
    pub async fn shown(self, visit: &Visit, section: Section, above: (&str, &str)) -> Shown {
        if visit.fragment {
            return page(&self);
        }
        let frame = Frame::of(visit, self.title.clone(), section).await.under(above.0, above.1);
        page(&ConfirmPage { frame, part: self })
    }
}

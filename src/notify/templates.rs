//! The texts of mails: built in, or replaced file by file from a site's `templates_dir`.
//!
//! One engine renders both, so that a site can start from a copy of a built-in file. Sluice renders every text with
//! sample notices when it starts, so that an undefined variable is reported then, with file and line, and not when the
//! first mail is due.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use minijinja::{Environment, UndefinedBehavior};
use serde::Serialize;

use super::content::{MailView, samples};

/// The longest subject, in characters; what is longer is cut.
const SUBJECT_CHARS_MAX: usize = 200;

macro_rules! built_in {
    ($($name:literal),+ $(,)?) => {
        const BUILT_IN: &[(&str, &str)] = &[$(($name, include_str!(concat!("templates/", $name)))),+];
    };
}

built_in![
    "_command_failed.html",
    "_command_failed.txt",
    "_footer.html",
    "_footer.txt",
    "_greeting.txt",
    "_layout.html",
    "_numbers.html",
    "_numbers.txt",
    "_paused.html",
    "_paused.txt",
    "_restored.html",
    "_restored.txt",
    "_slowed_down.html",
    "_slowed_down.txt",
    "_threshold_reached.html",
    "_threshold_reached.txt",
    "command_failed.html",
    "command_failed.subject.txt",
    "command_failed.txt",
    "digest.html",
    "digest.subject.txt",
    "digest.txt",
    "paused.html",
    "paused.subject.txt",
    "paused.txt",
    "restored.html",
    "restored.subject.txt",
    "restored.txt",
    "slowed_down.html",
    "slowed_down.subject.txt",
    "slowed_down.txt",
    "threshold_reached.html",
    "threshold_reached.subject.txt",
    "threshold_reached.txt",
];

/// One empty line between paragraphs, however many the parts of a text leave behind.
fn paragraphs(text: &str) -> String {
    let mut tidy = String::with_capacity(text.len());
    for line in text.trim().lines().map(str::trim_end) {
        if !(line.is_empty() && tidy.ends_with("\n\n")) {
            tidy.push_str(line);
            tidy.push('\n');
        }
    }
    tidy
}

/// A template that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TemplateError {
    /// The folder or a file in it.
    #[error("the templates in {} cannot be read", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file that replaces nothing.
    #[error("{}: there is no template of this name; there are {known}; a part of your own begins with an underscore", path.display())]
    Unknown {
        /// The file.
        path: PathBuf,
        /// What there is.
        known: String,
    },
    /// A template that does not read or render.
    #[error("{file}, line {line}: {problem}")]
    Broken {
        /// The file.
        file: String,
        /// The line, from 1; 0 if unknown.
        line: usize,
        /// What is wrong.
        problem: String,
    },
}

/// A mail as text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rendered {
    /// One line.
    pub subject: String,
    /// Plain text.
    pub text: String,
    /// The same as HTML.
    pub html: String,
}

/// The templates in force.
pub struct Templates {
    engine: Environment<'static>,
    /// Where the replaced ones come from.
    files: BTreeMap<String, PathBuf>,
}

impl Templates {
    /// The built-in ones, those in `folder` in place of their namesakes; all checked.
    pub fn load(folder: Option<&Path>) -> Result<Self, TemplateError> {
        let mut engine = Environment::new();
        engine.set_undefined_behavior(UndefinedBehavior::Strict);
        engine.set_trim_blocks(true);
        engine.set_lstrip_blocks(true);
        engine.set_keep_trailing_newline(true);
        let mut templates = Self { engine, files: BTreeMap::new() };
        for (name, text) in BUILT_IN {
            templates.add(name, text)?;
        }
        if let Some(folder) = folder {
            templates.replace(folder)?;
        }
        for sample in samples() {
            templates.render(&sample)?;
        }
        Ok(templates)
    }

    fn add(&mut self, name: &str, text: &str) -> Result<(), TemplateError> {
        let added = self.engine.add_template_owned(name.to_owned(), text.to_owned());
        added.map_err(|error| self.broken(name, &error))
    }

    fn replace(&mut self, folder: &Path) -> Result<(), TemplateError> {
        let unreadable = |path: &Path| {
            let path = path.to_owned();
            move |source| TemplateError::File { path, source }
        };
        for entry in std::fs::read_dir(folder).map_err(unreadable(folder))? {
            let path = entry.map_err(unreadable(folder))?.path();
            let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
            let is_template = path.extension().is_some_and(|kind| kind == "txt" || kind == "html");
            if !is_template || name.starts_with('.') {
                continue;
            }
            if !name.starts_with('_') && !BUILT_IN.iter().any(|(known, _)| *known == name) {
                let whole = BUILT_IN.iter().map(|(name, _)| *name).filter(|name| !name.starts_with('_'));
                let known = whole.collect::<Vec<_>>().join(", ");
                return Err(TemplateError::Unknown { path, known });
            }
            let text = std::fs::read_to_string(&path).map_err(unreadable(&path))?;
            self.files.insert(name.to_owned(), path.clone());
            self.add(name, &text)?;
        }
        Ok(())
    }

    /// The mail for one notice, or the digest for several.
    pub fn render(&self, mail: &MailView) -> Result<Rendered, TemplateError> {
        let name = match mail.notices.as_slice() {
            [one] => one.kind.as_str(),
            _ => "digest",
        };
        let subject = self.text(&format!("{name}.subject.txt"), mail)?;
        let subject: Vec<&str> = subject.split_whitespace().collect();
        Ok(Rendered {
            subject: subject.join(" ").chars().take(SUBJECT_CHARS_MAX).collect(),
            text: paragraphs(&self.text(&format!("{name}.txt"), mail)?),
            html: self.text(&format!("{name}.html"), mail)?,
        })
    }

    fn text(&self, name: &str, context: &impl Serialize) -> Result<String, TemplateError> {
        let rendered = self.engine.get_template(name).and_then(|template| template.render(context));
        rendered.map_err(|error| self.broken(name, &error))
    }

    /// The innermost error says what is wrong; it may lie in a part that the template includes.
    fn broken(&self, name: &str, error: &minijinja::Error) -> TemplateError {
        let mut innermost = error;
        while let Some(next) = std::error::Error::source(innermost).and_then(|e| e.downcast_ref::<minijinja::Error>()) {
            innermost = next;
        }
        let name = innermost.name().unwrap_or(name);
        let file = self.files.get(name).map_or_else(|| format!("template {name}"), |path| path.display().to_string());
        let kind = innermost.kind().to_string();
        let problem = innermost.detail().map_or(kind.clone(), |detail| format!("{kind}: {detail}"));
        TemplateError::Broken { file, line: innermost.line().unwrap_or_default(), problem }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::notice::NoticeTemplate;

    #[test]
    fn each_kind_has_a_subject_a_text_and_a_page() {
        for kind in NoticeTemplate::ALL.into_iter().map(NoticeTemplate::as_str).chain(["digest"]) {
            for part in ["subject.txt", "txt", "html"] {
                let name = format!("{kind}.{part}");
                assert!(BUILT_IN.iter().any(|(known, _)| *known == name), "{name}");
            }
        }
    }

    #[test]
    fn a_mail_reads_like_one() {
        let mail = Templates::load(None).unwrap().render(&samples()[0]).unwrap();
        let text = r#"Dear Alice A,

the allocation "climate on hpc1" on SLURM HPC cluster has reached 80 % of what it may use in 2026-Q1.

How this comes about:
  82.5 % = 825 of 1000 node_hours; 80 % reached -> notify

Used in 2026-Q1: 825 of 1000 (82.5 %).
  100 % (1000), slowed down: expected on 2026-03-20 at the present pace
  120 % (1200), paused: not expected at the present pace

Details: https://sluice.example/resources/7e5
Questions: hpc@site.example
"#;
        assert_eq!(mail.text, text);
        let digest = samples().into_iter().find(|sample| sample.notices.len() > 1).unwrap();
        let digest = Templates::load(None).unwrap().render(&digest).unwrap();
        assert_eq!(digest.subject, "5 notices on climate on hpc1");
        let start =
            "Dear Alice A,\n\nthis mail has 5 notices.\n\n== climate on hpc1, 2026-03-14 10:22 UTC\n\nthe allocation";
        assert!(digest.text.starts_with(start), "{}", digest.text);
        assert_eq!(digest.text.matches("Questions:").count(), 1);
        for sample in samples() {
            let text = Templates::load(None).unwrap().render(&sample).unwrap().text;
            assert!(text.contains(",\n\n") && !text.contains("\n\n\n"), "{text}");
            assert!(!text.contains("How") || text.contains("\n\nHow"), "{text}");
        }
    }

    fn broken(name: &str, text: &str) -> String {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(name), text).unwrap();
        match Templates::load(Some(folder.path())) {
            Ok(_) => panic!("{text} was accepted"),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn a_site_template_is_checked_when_it_is_loaded() {
        let message = broken("paused.txt", "Hello\n{{ notice.colour }}\n");
        assert!(message.contains("paused.txt, line 2: undefined value"), "{message}");
        let message = broken("paused.html", "<p>\n\n{% if notice.link %}\n</p>");
        assert!(message.contains("paused.html, line 4"), "{message}");
        let message = broken("pausd.txt", "Hello");
        assert!(message.contains("there is no template of this name") && message.contains("paused.txt"), "{message}");
        let message = broken("_numbers.txt", "\n\n{{ notice.used.much }}");
        assert!(message.contains("_numbers.txt, line 3"), "{message}");
    }

    #[test]
    fn a_site_template_replaces_its_namesake_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("paused.subject.txt"), "Stopped:\n {{ notice.resource.name }}").unwrap();
        std::fs::write(folder.path().join("notes.md"), "{{ no template }}").unwrap();
        let (own, built_in) = (Templates::load(Some(folder.path())).unwrap(), Templates::load(None).unwrap());
        let of = |kind| samples().into_iter().find(|s| s.notices.len() == 1 && s.notices[0].kind == kind).unwrap();
        let paused = of(NoticeTemplate::Paused);
        assert_eq!(own.render(&paused).unwrap().subject, format!("Stopped: {}", paused.notices[0].resource.name));
        assert_eq!(own.render(&paused).unwrap().text, built_in.render(&paused).unwrap().text);
        let restored = of(NoticeTemplate::Restored);
        assert_eq!(own.render(&restored).unwrap(), built_in.render(&restored).unwrap());
    }

    #[test]
    fn what_a_site_entered_is_escaped_in_html_only() {
        let mut sample = samples().remove(0);
        sample.notices[0].resource.name = "<b>R&D</b>".to_owned();
        sample.notice = sample.notices[0].clone();
        let mail = Templates::load(None).unwrap().render(&sample).unwrap();
        assert!(
            mail.text.contains("<b>R&D</b>") && mail.html.contains("&lt;b&gt;R&amp;D&lt;&#x2f;b&gt;"),
            "{}",
            mail.html
        );
    }
}

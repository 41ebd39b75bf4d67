//! Rules for text from outside: names, user names, reasons, labels, mail addresses.
//!
//! The rules exist once, and every entrance uses them: request bodies, query strings, site files, the command line and
//! agents' reports. Text already in the log stays as it is, and is cleaned before people see it.

use std::fmt;

use unicode_properties::{GeneralCategory, UnicodeGeneralCategory as _};

/// Ends a text that was cut.
pub const CUT: char = '…';

/// Stands for a character that is not shown.
const UNSHOWN: char = '\u{fffd}';

/// What a text of one kind may be: something, on one line, without characters that cannot be seen, and not too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TextRule {
    /// Characters at most.
    pub max: usize,
    /// Whether blanks may stand within it.
    pub blanks: bool,
}

/// Names of objects, full names of people, labels of tokens, tickets.
pub const NAME: TextRule = TextRule::of(255);
/// User names, which stand on command lines too.
pub const USERNAME: TextRule = TextRule { max: 150, blanks: false };
/// Reasons.
pub const REASON: TextRule = TextRule::of(2_000);
/// Whatever no other rule is for: a value of the query, an argument, a scalar of a site file.
pub const ANY: TextRule = TextRule::of(100_000);

/// What is wrong with a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TextProblem {
    /// Nothing but blanks.
    #[error("This field may not be blank.")]
    Blank,
    /// Too long.
    #[error("Ensure this field has no more than {max} characters: {given} were given.")]
    TooLong {
        /// Characters at most.
        max: usize,
        /// Characters that were given.
        given: usize,
    },
    /// A character that is not seen, or that changes how others are seen.
    #[error("{} are not allowed: U+{:04X} is character {at}.", kind_of(*found), u32::from(*found))]
    Unseen {
        /// The character.
        found: char,
        /// Which one of the text, from 1.
        at: usize,
    },
    /// Blanks within it.
    #[error("Blanks are not allowed within it.")]
    Blanks,
}

fn kind_of(unseen: char) -> &'static str {
    match unseen.general_category() {
        GeneralCategory::Format => "Invisible format characters",
        GeneralCategory::LineSeparator | GeneralCategory::ParagraphSeparator => "Line breaks",
        _ => "Control characters",
    }
}

/// Whether a character is not seen, or changes how others are seen: control characters, line and paragraph separators, and
/// format characters, those that turn the direction of writing among them.
pub fn is_unseen(c: char) -> bool {
    // Nearly all text is this; the table is asked for the rest.
    if matches!(c, ' '..='~') {
        return false;
    }
    matches!(
        c.general_category(),
        GeneralCategory::Control
            | GeneralCategory::Format
            | GeneralCategory::LineSeparator
            | GeneralCategory::ParagraphSeparator
    )
}

/// The first character of a text that is not seen, and which one of the text it is.
pub fn unseen_in(text: &str) -> Option<TextProblem> {
    text.chars().enumerate().find(|(_, c)| is_unseen(*c)).map(|(i, found)| TextProblem::Unseen { found, at: i + 1 })
}

impl TextRule {
    /// A text of up to so many characters, in which blanks may stand.
    pub const fn of(max: usize) -> Self {
        Self { max, blanks: true }
    }

    /// The text without blanks around it, if it follows the rule.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(self, text: &str) -> Result<String, TextProblem> {
        let text = text.trim();
        let given = text.chars().count();
        if given == 0 {
            return Err(TextProblem::Blank);
        }
        if given > self.max {
            return Err(TextProblem::TooLong { max: self.max, given });
        }
        if let Some(problem) = unseen_in(text) {
            return Err(problem);
        }
        if !self.blanks && text.contains(char::is_whitespace) {
            return Err(TextProblem::Blanks);
        }
        Ok(text.to_owned())
    }

    /// The same, for a text that may be empty.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read_or_empty(self, text: &str) -> Result<String, TextProblem> {
        if text.trim().is_empty() { Ok(String::new()) } else { self.read(text) }
    }
}

/// A text on one line and not too long, for what cannot be refused: a mark stands for each character that is not seen, a
/// blank for each line break and tab, and [`CUT`] at the end for what was cut.
pub fn on_one_line(text: &str, max: usize) -> String {
    cut(text.trim().chars().map(|c| if is_unseen(c) { on_a_line(c) } else { c }), max)
}

/// The same with its line breaks and tabs.
pub fn cleaned(text: &str, max: usize) -> String {
    let plain = text.replace("\r\n", "\n");
    cut(plain.chars().map(|c| if is_unseen(c) && !matches!(c, '\n' | '\t') { UNSHOWN } else { c }), max)
}

fn on_a_line(unseen: char) -> char {
    match unseen.general_category() {
        GeneralCategory::LineSeparator | GeneralCategory::ParagraphSeparator => ' ',
        GeneralCategory::Control if unseen.is_whitespace() => ' ',
        _ => UNSHOWN,
    }
}

fn cut(mut characters: impl Iterator<Item = char>, max: usize) -> String {
    let mut text: String = characters.by_ref().take(max).collect();
    if characters.next().is_some() {
        text.pop();
        text.push(CUT);
    }
    text
}

/// A mail address: an ASCII name, `@`, a domain whose letters may be of any script. Kept as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    text: String,
    ascii: String,
}

/// A text that is no mail address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("Enter a valid email address: {0:?} is none.")]
pub struct NoAddress(String);

impl Address {
    /// Reads an address: no display name, no quoted part, no comment.
    ///
    /// # Errors
    /// It is none that mail could go to.
    pub fn parse(text: &str) -> Result<Self, NoAddress> {
        let text = text.trim();
        if unseen_in(text).is_some() {
            return Err(NoAddress(on_one_line(text, 80)));
        }
        let refused = || NoAddress(on_one_line(text, 80));
        let (local, domain) = text.rsplit_once('@').ok_or_else(refused)?;
        let fits = (1..=64).contains(&local.len())
            && local.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+/=?^_`{|}~.-".contains(&b))
            && !local.starts_with('.')
            && !local.ends_with('.')
            && !local.contains("..");
        let ascii = idna::domain_to_ascii_strict(domain).map_err(|_| refused())?;
        let labels = ascii.split('.').count();
        if !fits || ascii.is_empty() || ascii.ends_with('.') || (labels < 2 && ascii != "localhost") {
            return Err(refused());
        }
        let ascii = format!("{local}@{ascii}");
        if ascii.len() > 254 { Err(refused()) } else { Ok(Self { text: text.to_owned(), ascii }) }
    }

    /// As it was written.
    pub fn as_written(&self) -> &str {
        &self.text
    }

    /// As it goes over the wire: the domain in the encoding for names that are not ASCII.
    pub fn as_ascii(&self) -> &str {
        &self.ascii
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_trimmed_and_keeps_every_script() {
        for text in ["Ann A", "Łukasz Żółć", "李 明", "محمد", "O'Brien-Smith (PI)", "👩 x", "a\u{a0}b"] {
            assert_eq!(NAME.read(&format!("  {text}\n")).as_deref(), Ok(text));
        }
    }

    #[test]
    fn what_is_not_seen_is_refused_with_its_name_and_place() {
        for (text, message) in [
            ("Ann\nB", "Control characters are not allowed: U+000A is character 4."),
            ("a\tb", "Control characters are not allowed: U+0009 is character 2."),
            ("a\u{1b}[31m", "Control characters are not allowed: U+001B is character 2."),
            ("a\u{85}b", "Control characters are not allowed: U+0085 is character 2."),
            ("a\u{2028}b", "Line breaks are not allowed: U+2028 is character 2."),
            ("a\u{2029}b", "Line breaks are not allowed: U+2029 is character 2."),
            ("evil\u{202e}txt", "Invisible format characters are not allowed: U+202E is character 5."),
            ("a\u{2066}b", "Invisible format characters are not allowed: U+2066 is character 2."),
            ("a\u{200b}b", "Invisible format characters are not allowed: U+200B is character 2."),
            ("a\u{feff}b", "Invisible format characters are not allowed: U+FEFF is character 2."),
            ("a\u{e0041}b", "Invisible format characters are not allowed: U+E0041 is character 2."),
        ] {
            assert_eq!(NAME.read(text).unwrap_err().to_string(), message, "{text:?}");
        }
        assert_eq!(NAME.read(" \t\n"), Err(TextProblem::Blank));
        assert_eq!(NAME.read_or_empty(" \t\n").as_deref(), Ok(""));
        assert_eq!(TextRule::of(3).read("abcd"), Err(TextProblem::TooLong { max: 3, given: 4 }));
        assert_eq!(TextRule::of(3).read("äöü").as_deref(), Ok("äöü"));
        assert_eq!(USERNAME.read("a b"), Err(TextProblem::Blanks));
    }

    #[test]
    fn what_cannot_be_refused_is_marked_and_cut() {
        assert_eq!(on_one_line(" a\r\nb\u{1b}[2J\u{202e} ", 20), "a  b\u{fffd}[2J\u{fffd}");
        assert_eq!(cleaned("one\r\ntwo\t\u{7}", 20), "one\ntwo\t\u{fffd}");
        assert_eq!(on_one_line("abcdef", 4), "abc…");
        assert_eq!(on_one_line("abcd", 4), "abcd");
    }

    #[test]
    fn addresses_are_plain_ones_and_their_domain_is_encoded() {
        for (good, ascii) in [
            ("a@b.example", "a@b.example"),
            ("first.last+tag@sub.domain.example", "first.last+tag@sub.domain.example"),
            ("root@localhost", "root@localhost"),
            ("x@münchen.example", "x@xn--mnchen-3ya.example"),
            ("x@MÜNCHEN.example", "x@xn--mnchen-3ya.example"),
            ("x@例え.テスト", "x@xn--r8jz45g.xn--zckzah"),
        ] {
            let address = Address::parse(good).unwrap();
            assert_eq!((address.as_ascii(), address.as_written()), (ascii, good));
        }
        for bad in [
            "",
            "a",
            "a@",
            "@b.example",
            "a@b",
            "a b@c.example",
            "a@b..example",
            ".a@b.example",
            "A <a@b.example>",
            "a@-b.example",
            "a@b_c.example",
            "jürgen@b.example",
            "a@b.example.",
            "a@b.exa\nmple",
            "a\u{200b}@b.example",
            "a@b\u{202e}.example",
            "a@[127.0.0.1]",
            "a@b.example, c@d.example",
            "a\r\nBcc: x@y.example",
        ] {
            assert!(Address::parse(bad).is_err(), "{bad:?}");
        }
        let long = format!("a@{}.example", ["x".repeat(60).as_str(); 5].join("."));
        assert!(Address::parse(&long).is_err());
    }
}

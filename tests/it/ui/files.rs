//! The templates and styles themselves: nothing inline, no words that need `eval`, and colours that can be read.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

fn files(folder: &str, ending: &str) -> Vec<(PathBuf, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let entries = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
    let found: Vec<PathBuf> = entries.filter(|path| path.extension().is_some_and(|e| e == ending)).collect();
    assert!(!found.is_empty(), "{}", folder.display());
    found.into_iter().map(|path| (path.clone(), std::fs::read_to_string(path).unwrap())).collect()
}

#[test]
fn no_template_has_style_or_script_in_it_or_loads_from_elsewhere() {
    let mut broken = Vec::new();
    for (path, text) in files("src/ui/templates", "html") {
        for word in [
            "style=",
            "<style",
            "onclick",
            "onload",
            "onsubmit",
            "onchange",
            "javascript:",
            "hx-on",
            "hx-vals='js",
            "https://",
            "http://",
            "|safe",
        ] {
            // What is put in unescaped are templates of our own.
            let ours = word == "|safe"
                && text.matches("|safe").count()
                    == text.matches("tabs|safe").count()
                        + text.matches("log|safe").count()
                        + text.matches("part|safe").count();
            if text.contains(word) && !ours {
                broken.push(format!("{}: {word}", path.display()));
            }
        }
        let scripts = text.matches("<script").count();
        assert_eq!(scripts, text.matches("<script src=").count(), "{}", path.display());
    }
    assert_eq!(broken, Vec::<String>::new());
}

/// A table is a card or a stack for each row on a phone, or has so few columns that it fits as it is.
#[test]
fn every_table_has_a_form_for_a_phone() {
    let small = ["terms", "data flush", "data"];
    let mut broken = Vec::new();
    for (path, text) in files("src/ui/templates", "html") {
        for table in text.split("<table class=\"").skip(1) {
            let (class, rest) = table.split_once('"').unwrap();
            let head = rest.split("</thead>").next().unwrap_or_default();
            let columns = head.matches("<th ").count();
            let adapts = class.split(' ').any(|word| word == "cards" || word == "stack");
            let twin = path.ends_with("picture.html");
            if !adapts && !twin && (columns > 4 || !small.iter().any(|word| class.starts_with(word))) {
                broken.push(format!("{}: {class}, {columns} columns", path.display()));
            }
        }
    }
    assert_eq!(broken, Vec::<String>::new());
}

#[test]
fn our_own_script_stays_small() {
    let script = std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/ui/assets/sluice.js")).unwrap();
    assert!(script.len() <= 8 * 1024, "{} bytes", script.len());
}

/// Relative luminance, as WCAG 2.2 defines it.
fn luminance(hex: &str) -> f64 {
    let channel = |at: usize| {
        let value = f64::from(u8::from_str_radix(&hex[at..at + 2], 16).unwrap()) / 255.0;
        if value <= 0.04045 { value / 12.92 } else { ((value + 0.055) / 1.055).powf(2.4) }
    };
    0.2126 * channel(1) + 0.7152 * channel(3) + 0.0722 * channel(5)
}

fn contrast(a: &str, b: &str) -> f64 {
    let (a, b) = (luminance(a), luminance(b));
    (a.max(b) + 0.05) / (a.min(b) + 0.05)
}

/// The tokens of a theme: 0 light, 1 dark.
fn tokens(theme: usize) -> BTreeMap<String, String> {
    let (_, text) =
        files("src/ui/assets/css", "css").into_iter().find(|(path, _)| path.ends_with("01-tokens.css")).unwrap();
    let token = |line: &str| {
        let (name, value) = line.trim().strip_prefix("--")?.split_once(": light-dark(")?;
        let value = value.strip_suffix(");")?.split(", ").nth(theme)?;
        Some((name.to_owned(), value.to_owned()))
    };
    let found: BTreeMap<String, String> = text.lines().filter_map(token).collect();
    assert!(found.len() > 30, "{found:?}");
    found
}

#[test]
fn text_and_fills_can_be_told_from_what_is_behind_them() {
    let mut broken = Vec::new();
    for (theme, name) in ["light", "dark"].into_iter().enumerate() {
        let tokens = tokens(theme);
        let mut needs = |front: &str, back: &str, least: f64| {
            let found = contrast(&tokens[front], &tokens[back]);
            if found < least {
                broken.push(format!("{name}: {front} on {back} has {found:.2}, not {least}"));
            }
        };
        for back in ["surface", "canvas", "raised"] {
            for front in ["text", "text-2", "text-3", "link"] {
                needs(front, back, 4.5);
            }
            for state in ["normal", "warn", "slow", "pause", "hold", "exempt"] {
                needs(state, back, 4.5);
            }
        }
        needs("on-accent", "accent", 4.5);
        needs("focus", "canvas", 3.0);
        needs("control", "surface", 3.0);
        for state in ["normal", "warn", "slow", "pause", "hold", "exempt"] {
            needs(state, &format!("{state}-tint"), 4.5);
            needs(&format!("{state}-fill"), "surface", 3.0);
        }
    }
    assert_eq!(broken, Vec::<String>::new());
}

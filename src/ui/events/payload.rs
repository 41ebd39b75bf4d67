//! What an event says, as JSON that people can read: short objects on a line, and names and values told apart.

use serde_json::Value;

/// Lines at most.
const LINES_MAX: usize = 400;

/// What still fits onto a line.
const INLINE_CHARS: usize = 72;

/// A piece of text with its class: `k` a name, `s` a text, `n` a number or a word.
pub type Span = (&'static str, String);

/// The lines of a value.
pub fn lines(value: &Value) -> Vec<Vec<Span>> {
    let mut lines = vec![Vec::new()];
    write(value, 0, &mut lines);
    if lines.len() > LINES_MAX {
        let more = lines.len() - LINES_MAX;
        lines.truncate(LINES_MAX);
        lines.push(vec![("", format!("… and {more} lines more: the file has them"))]);
    }
    lines
}

fn push(lines: &mut [Vec<Span>], class: &'static str, text: impl Into<String>) {
    if let Some(last) = lines.last_mut() {
        last.push((class, text.into()));
    }
}

fn scalar(value: &Value) -> Span {
    match value {
        Value::String(_) => ("s", value.to_string()),
        _ => ("n", value.to_string()),
    }
}

fn write(value: &Value, depth: usize, lines: &mut Vec<Vec<Span>>) {
    let (open, close, entries): (_, _, Vec<(Option<&String>, &Value)>) = match value {
        Value::Object(map) if !map.is_empty() => {
            ("{", "}", map.iter().map(|(name, value)| (Some(name), value)).collect())
        }
        Value::Array(items) if !items.is_empty() => ("[", "]", items.iter().map(|value| (None, value)).collect()),
        Value::Object(_) => return push(lines, "", "{}"),
        Value::Array(_) => return push(lines, "", "[]"),
        one => {
            let (class, text) = scalar(one);
            return push(lines, class, text);
        }
    };
    let inline = value.to_string().len() <= INLINE_CHARS && depth > 0;
    let indent = |depth: usize| "  ".repeat(depth);
    push(lines, "", open);
    for (at, (name, value)) in entries.iter().enumerate() {
        if !inline {
            lines.push(Vec::new());
            push(lines, "", indent(depth + 1));
        }
        if let Some(name) = name {
            push(lines, "k", Value::String((*name).clone()).to_string());
            push(lines, "", ": ");
        }
        write(value, depth + 1, lines);
        if at + 1 < entries.len() {
            push(lines, "", if inline { ", " } else { "," });
        }
    }
    if !inline {
        lines.push(Vec::new());
        push(lines, "", indent(depth));
    }
    push(lines, "", close);
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_shown_is_the_same_json() {
        let value = json!({"short": {"a": 1, "b": "x\"y"}, "empty": [], "long": vec!["0123456789"; 12], "none": null});
        let lines = lines(&value);
        let text: Vec<String> = lines.iter().map(|line| line.iter().map(|(_, text)| text.as_str()).collect()).collect();
        assert_eq!(serde_json::from_str::<Value>(&text.join("\n")).unwrap(), value, "{text:#?}");
        assert!(text.iter().any(|line| line.contains(r#"{"a": 1, "b": "x\"y"}"#)), "{text:#?}");
        assert!(text.len() > 12, "what is long stands on lines of its own");
    }
}

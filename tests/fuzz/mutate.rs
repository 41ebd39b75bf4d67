//! Turns a payload into another one that may still be of its type: the same for the property test and for the fuzzer.

use serde_json::{Map, Value};

/// Bytes as choices; when they are used up they begin again, shifted, so that no choice is ever missing.
pub struct Choices<'a> {
    bytes: &'a [u8],
    used: usize,
}

impl<'a> Choices<'a> {
    /// Chooses by these bytes.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, used: 0 }
    }

    fn byte(&mut self) -> u8 {
        let round = u8::try_from((self.used / self.bytes.len().max(1)) % 256).unwrap_or(0);
        let byte = self.bytes.get(self.used % self.bytes.len().max(1)).copied().unwrap_or(0);
        self.used += 1;
        byte.wrapping_add(round.wrapping_mul(31))
    }

    /// A number below a bound.
    fn below(&mut self, bound: usize) -> usize {
        ((usize::from(self.byte()) << 8) | usize::from(self.byte())) % bound.max(1)
    }

    fn text(&mut self) -> String {
        let length = self.below(24);
        let bytes: Vec<u8> = (0..length).map(|_| self.byte()).collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

/// Values that have been trouble somewhere: edges of numbers and calendars, characters that do something.
const TEXTS: [&str; 34] = [
    "",
    "0",
    "-0",
    "1",
    "0.0",
    "1.50",
    "-1",
    "1000000000000000",
    "79228162514264337593543950335",
    "0.0000000000000000000000000001",
    "1e3",
    "1E-7",
    "NaN",
    "0000-01",
    "0001-01",
    "1970-01",
    "9998-12",
    "9999-12",
    "2026-Q1",
    "2026",
    "total",
    "1969-12-31T23:59:59Z",
    "2026-03-29T02:30:00+01:00",
    "9999-12-31T23:59:59.999999Z",
    "same_as",
    "a\nb",
    "a\u{0}b",
    "\u{202e}abc",
    "\u{feff}",
    "\u{1f600}",
    "\u{10ffff}",
    "\u{7f}",
    "\\\"",
    "00000000000000000000000000000000",
];

const NUMBERS: [i64; 9] = [0, 1, -1, 255, 65_536, 4_294_967_295, 4_294_967_296, i64::MAX, i64::MIN];

/// Changes one or a few of the values of a payload.
pub fn mutate(payload: &mut Value, choices: &mut Choices<'_>) {
    for _ in 0..=choices.below(3) {
        change(payload, choices);
    }
}

/// Changes one value somewhere below.
fn change(value: &mut Value, choices: &mut Choices<'_>) {
    match value {
        Value::Object(map) if !map.is_empty() => in_object(map, choices),
        Value::Array(list) if !list.is_empty() => match choices.below(8) {
            0 => drop(list.remove(choices.below(list.len()))),
            1 => list.push(list[choices.below(list.len())].clone()),
            _ => {
                let place = choices.below(list.len());
                change(&mut list[place], choices);
            }
        },
        Value::String(text) => {
            *text = if choices.below(3) == 0 { choices.text() } else { TEXTS[choices.below(TEXTS.len())].to_owned() };
        }
        Value::Number(_) => *value = NUMBERS[choices.below(NUMBERS.len())].into(),
        Value::Bool(bool) => *bool = !*bool,
        Value::Null | Value::Object(_) | Value::Array(_) => {
            *value = match choices.below(4) {
                0 => Value::Null,
                1 => TEXTS[choices.below(TEXTS.len())].into(),
                2 => Value::Object(Map::new()),
                _ => Value::Array(Vec::new()),
            };
        }
    }
}

fn in_object(map: &mut Map<String, Value>, choices: &mut Choices<'_>) {
    let keys: Vec<String> = map.keys().cloned().collect();
    let key = &keys[choices.below(keys.len())];
    match choices.below(12) {
        0 => drop(map.remove(key)),
        // Another component, another policy, or a field that nobody knows.
        1 => {
            let copy = map[key].clone();
            let name =
                if choices.below(2) == 0 { choices.text() } else { TEXTS[choices.below(TEXTS.len())].to_owned() };
            map.insert(name, copy);
        }
        2 => drop(map.insert(key.clone(), Value::Null)),
        _ => change(map.get_mut(key).unwrap_or(&mut Value::Null), choices),
    }
}

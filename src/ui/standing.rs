//! Words, icons and colours for states. No state relies on colour alone: a word and an icon accompany it.

/// Something that is said with an icon and a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tone {
    /// The class of its colours.
    pub class: &'static str,
    /// Its icon.
    pub icon: &'static str,
    /// Its word.
    pub word: &'static str,
}

const fn tone(class: &'static str, icon: &'static str, word: &'static str) -> Tone {
    Tone { class, icon, word }
}

/// The states of an allocation by their names on the wire, in the order in which they are counted.
pub const STATES: [(&str, Tone); 6] = [
    ("normal", tone("normal", "circle-check", "Normal")),
    ("warned", tone("warn", "bell", "Warned")),
    ("slowed_down", tone("slow", "chevrons-down", "Slowed down")),
    ("paused", tone("pause", "pause", "Paused")),
    ("on_hold", tone("hold", "lock", "On hold")),
    ("exempt", tone("exempt", "shield", "Exempt")),
];

/// The state of this name; one that the page does not know is shown as normal with its icon.
pub fn state(name: &str) -> Tone {
    STATES.iter().find(|(known, _)| *known == name).map_or(STATES[0].1, |(_, tone)| *tone)
}

/// How high a state stands in strips, of 16.
pub fn level(name: &str) -> u32 {
    match name {
        "warned" => 7,
        "slowed_down" => 11,
        "paused" | "on_hold" => 16,
        _ => 2,
    }
}

/// What the site agent made of the newest commands.
pub fn agent(status: &str) -> Tone {
    match status {
        "queued" => tone("plain", "hourglass", "Queued"),
        "sent" => tone("plain", "send", "Sent"),
        "confirmed" => tone("normal", "circle-check", "Confirmed"),
        "failed" => tone("pause", "circle-x", "Failed"),
        "no_answer" => tone("warn", "circle-question-mark", "No answer"),
        "superseded" => tone("plain", "undo-2", "Superseded"),
        _ => tone("plain", "circle-minus", "Not needed"),
    }
}

/// What happens at a rung.
pub fn effect(effect: &str) -> Tone {
    match effect {
        "pause" => tone("pause", "pause", "Pause"),
        "downscale" => tone("slow", "chevrons-down", "Slow down"),
        _ => tone("warn", "bell", "Warn"),
    }
}

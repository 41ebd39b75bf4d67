//! Positions by number, in a log that counts: what a test of such a log may know, and the program nowhere else.

use sluice::events::envelope::Position;

/// The position of the event with this number.
pub fn at(number: u64) -> Position {
    Position::read_plain(&number.to_string()).unwrap()
}

/// The number of the event at a position.
pub fn number(position: Position) -> u64 {
    position.plain().parse().unwrap()
}

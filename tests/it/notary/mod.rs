//! The notary on each store: what is signed holds, and what is changed afterwards is named with its place and its kind.

mod bed;
mod edits;
mod keys;
mod tampering;

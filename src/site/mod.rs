//! Site stub.

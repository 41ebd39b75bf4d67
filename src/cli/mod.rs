//! Command line: stub.

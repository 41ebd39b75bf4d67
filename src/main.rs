//! The `sluice` command.

use std::process::ExitCode;

/// Half of a decision is small allocations, and this allocator takes half as long over each. The database's C code uses it
/// too, by the crate's `override`.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    sluice::cli::main()
}

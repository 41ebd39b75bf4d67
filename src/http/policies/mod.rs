//! `/api/marketplace-slurm-periodic-usage-policies/`: SLURM periodic usage policies.

mod body;
mod options;
mod shape;

/// The segment of the address under which policies stand.
pub const COLLECTION: &str = "marketplace-slurm-periodic-usage-policies";

//! Live resources by SLURM account.

use std::sync::LazyLock;

use super::resources::state_of;
use crate::domain::ids::{OfferingId, ResourceId};
use crate::projections::kit::in_list;
use crate::store::sql::{ReadDb, SqlError, SqlValue, read_in};

/// A live resource with its account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountHolder {
    /// The resource.
    pub resource: ResourceId,
    /// Its name.
    pub name: String,
    /// Its offering.
    pub offering: OfferingId,
    /// The account, in small letters.
    pub account: String,
}

static HOLDERS: LazyLock<String> = LazyLock::new(|| {
    in_list(
        "SELECT id, name, offering, lower(CASE WHEN backend_id = '' THEN name ELSE backend_id END), state \
         FROM registry_resources WHERE lower(CASE WHEN backend_id = '' THEN name ELSE backend_id END) IN",
        "ORDER BY no",
    )
});

/// The live resources that have one of these accounts, whatever their case, on any offering.
pub async fn account_holders(db: &ReadDb, accounts: &[&str]) -> Result<Vec<AccountHolder>, SqlError> {
    let mut keys: Vec<String> = accounts.iter().map(|account| account.to_ascii_lowercase()).collect();
    keys.sort_unstable();
    keys.dedup();
    let keys: Vec<SqlValue> = keys.into_iter().map(SqlValue::from).collect();
    let mut found = Vec::new();
    for row in read_in(db, &HOLDERS, &keys).await? {
        if state_of(row.i64(4)?, 4)?.is_live() {
            found.push(AccountHolder {
                resource: row.uuid(0)?.into(),
                name: row.text(1)?.to_owned(),
                offering: row.uuid(2)?.into(),
                account: row.text(3)?.to_owned(),
            });
        }
    }
    Ok(found)
}

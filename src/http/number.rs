//! Decimals as JSON numbers.

use rust_decimal::Decimal;
use serde::{Serialize, Serializer};
use utoipa::ToSchema;

use crate::domain::decimal;
use crate::domain::tres::Amounts;

/// A decimal that is written as a JSON number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ToSchema)]
#[schema(value_type = f64)]
pub struct Num(pub Decimal);

impl Serialize for Num {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        decimal::number(self.0).serialize(serializer)
    }
}

/// Amounts by component as JSON numbers.
pub fn amounts(amounts: &Amounts) -> std::collections::BTreeMap<String, Num> {
    amounts.iter().map(|(component, amount)| (component.clone(), Num(*amount))).collect()
}

//! The section `[metrics]`: whether metrics are collected, and who may read them.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

/// Who may read `/metrics` under the service's own address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MetricsAccess {
    /// Staff and support, with their token.
    #[default]
    Token,
    /// Anybody.
    Public,
    /// Nobody: there is no such page.
    Off,
}

/// Metrics.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MetricsConfig {
    /// Who may read them under the service's own address.
    pub access: MetricsAccess,
    /// A second address that serves nothing else, to anybody who reaches it.
    pub listen: Option<SocketAddr>,
}

impl MetricsConfig {
    /// Whether anybody may read them, so that they are worth collecting.
    pub fn wanted(&self) -> bool {
        self.access != MetricsAccess::Off || self.listen.is_some()
    }
}

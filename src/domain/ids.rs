//! Opaque identities: one newtype over a UUID per kind of object, so that a policy's id cannot be used as a resource's.
//!
//! They are printed as 32 hex digits without dashes, and read with or without them. Ids of objects named in a site file
//! derive from their slug, so that the same file gives the same ids on every machine.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::Uuid;

/// Text that is no identity.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an id: 32 hex digits are expected, with or without dashes")]
pub struct IdError(String);

/// Reads the two accepted spellings of a UUID, and no third (braces and URNs are refused).
fn parse(text: &str) -> Result<Uuid, IdError> {
    let refused = || IdError(text.chars().take(64).collect());
    if !matches!(text.len(), 32 | 36) {
        return Err(refused());
    }
    Uuid::try_parse(text).map_err(|_| refused())
}

macro_rules! ids {
    ($($(#[$doc:meta])+ $name:ident;)+) => {$(
        $(#[$doc])+
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Uuid);

        impl $name {
            /// The UUID itself.
            pub const fn as_uuid(&self) -> Uuid {
                self.0
            }
        }

        impl From<Uuid> for $name {
            fn from(uuid: Uuid) -> Self {
                Self(uuid)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::LowerHex::fmt(self.0.as_simple(), f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                parse(text).map(Self)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    )+};
}

ids! {
    /// One allocation on a cluster, that is: one SLURM account.
    ResourceId;
    /// One periodic usage policy.
    PolicyId;
    /// One cluster as sold.
    OfferingId;
    /// One organisation.
    CustomerId;
    /// One project of an organisation.
    ProjectId;
    /// One group of organisations.
    GroupId;
    /// One person or machine account; who it is, only the directory knows.
    UserId;
    /// One event of the log.
    EventId;
    /// One message to a site agent, across its resends.
    DispatchId;
    /// One reason for which a resource is held paused or downscaled.
    HoldId;
    /// One site agent: a name that it gives itself on one offering.
    AgentId;
    /// One service that a site agent runs, such as its report loop.
    AgentServiceId;
    /// One processor of such a service.
    AgentProcessorId;
    /// One subscription of an older site agent to messages of one kind.
    SubscriptionId;
    /// One registration of an agent's message queue.
    QueueId;
    /// One API token (never its key).
    TokenId;
    /// One request that the running server is to carry out.
    RequestId;
    /// One mail or webhook call, across its attempts.
    NoticeId;
}

/// The identity of the thing of this `kind` with this `slug`: the version 5 UUID of `kind/slug` in Sluice's own namespace.
pub fn slug_uuid(kind: &str, slug: &str) -> Uuid {
    let namespace = Uuid::new_v5(&Uuid::NAMESPACE_DNS, b"sluice");
    Uuid::new_v5(&namespace, format!("{kind}/{slug}").as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "7e500000000040008000000000000001";

    #[test]
    fn both_spellings_are_one_id_and_it_prints_without_dashes() {
        let plain: ResourceId = HEX.parse().unwrap();
        let dashed: ResourceId = "7E500000-0000-4000-8000-000000000001".parse().unwrap();
        assert_eq!(plain, dashed);
        assert_eq!(dashed.to_string(), HEX);
        assert_eq!(format!("{dashed:?}"), format!("ResourceId({HEX})"));
        assert_eq!(ResourceId::from(dashed.as_uuid()), plain);
    }

    #[test]
    fn serde_writes_hex_and_reads_both() {
        let id: PolicyId = serde_json::from_str("\"7e500000-0000-4000-8000-000000000001\"").unwrap();
        assert_eq!(serde_json::to_string(&id).unwrap(), format!("\"{HEX}\""));
        assert_eq!(serde_json::from_str::<PolicyId>(&format!("\"{HEX}\"")).unwrap(), id);
    }

    #[test]
    fn anything_else_is_refused() {
        for text in [
            "",
            "7e5",
            "{7e500000-0000-4000-8000-000000000001}",
            "zz500000000040008000000000000001",
            "7e500000 0000-4000-8000-000000000001x",
        ] {
            assert!(text.parse::<PolicyId>().is_err(), "{text:?} was accepted");
        }
    }

    #[test]
    fn ids_of_slugs_are_fixed_for_ever() {
        // Computed independently with Python's uuid module.
        assert_eq!(slug_uuid("resource", "climate-hpc1").simple().to_string(), "1a29648635605811bb824f4946f9c457");
        assert_ne!(slug_uuid("resource", "a"), slug_uuid("policy", "a"));
    }
}

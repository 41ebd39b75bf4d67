//! Earlier versions of policies: the registry's tables have only the newest version of each, its stream has all of
//! them.

use super::{FollowError, Registry, superseded};
use crate::commands::registry::policy_stream;
use crate::domain::ids::PolicyId;
use crate::events::envelope::DecodeError;
use crate::events::registry::RegistryEvent;
use crate::store::EventStore;

/// Versions of a policy read at a time.
const VERSIONS: usize = 500;

/// Reads the component limits that a policy of the registry had in earlier versions.
///
/// # Errors
/// The log cannot be read, or one of the versions cannot: what a period looks back to would be another value.
pub async fn earlier_limits(store: &dyn EventStore, registry: &Registry, policy: PolicyId) -> Result<(), FollowError> {
    let Some(version) = registry.read().policy(policy).map(|known| known.version) else { return Ok(()) };
    let stream = policy_stream(policy);
    let (mut read, mut was, mut earlier) = (0, None, Vec::new());
    while read < version {
        let page = store.read_stream(&stream, read, VERSIONS).await?;
        let Some(last) = page.last() else { break };
        read = last.version;
        for event in page.iter().filter(|event| event.version <= version) {
            let facts = match RegistryEvent::decode(&event.event_type, &event.payload) {
                Some(Ok(RegistryEvent::PolicyCreated(facts) | RegistryEvent::PolicyChanged(facts))) => facts,
                Some(Err(problem)) => {
                    let unsound = DecodeError::new(event, problem);
                    store.note(&unsound);
                    return Err(unsound.into());
                }
                _ => continue,
            };
            if let Some(was) = &was {
                superseded(&mut earlier, was, &facts, event.occurred_at);
            }
            was = Some(*facts);
        }
    }
    registry.write().set_earlier_limits(policy, earlier);
    Ok(())
}

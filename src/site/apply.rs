//! Applies a site file: reads the current state, validates, plans, and carries the plan out through the API's commands.

use std::collections::HashSet;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde::Serialize;

use super::SiteErrors;
use super::accounts::claims;
use super::file::{Kind, SiteFile};
use super::known::Known;
use super::merge::{Desired, DesiredPolicy, Ids};
use super::plan::{Plan, ResourceChange, Step, plan};
use super::users::{KeySource, TokenSpec};
use super::validate::{Given, validate};
use crate::commands::allocation::AllocationCommand;
use crate::commands::execute::{Allocations, CommandError, CommandMeta};
use crate::commands::registry::{RegistryCommands, RegistryError};
use crate::directory::{Directory, DirectoryError, NewToken};
use crate::domain::ids::{OfferingId, ResourceId, TokenId};
use crate::operations::account_holders;
use crate::registry::Registry;
use crate::store::sql::{ReadDb, SqlError};

/// Resources that one batch of commands, or one read of books, is for.
const BATCH: usize = 500;

/// Why a site file was not applied, or not to its end.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The file is wrong; nothing was changed.
    #[error(transparent)]
    Invalid(#[from] SiteErrors),
    /// A command on the registry failed. What comes before it in the plan is done; applying again goes on from there.
    #[error("{kind} {slug:?} could not be applied", kind = .kind.word())]
    Registry {
        /// Kind of the object.
        kind: Kind,
        /// Its slug.
        slug: String,
        /// Why.
        source: RegistryError,
    },
    /// A command on a resource failed.
    #[error("resource {slug:?} could not be applied")]
    Resource {
        /// Its slug.
        slug: String,
        /// Why.
        source: CommandError,
    },
    /// What is could not be read.
    #[error("the allocations cannot be read")]
    Read(#[source] CommandError),
    /// The directory failed.
    #[error("the directory failed")]
    Directory(#[from] DirectoryError),
    /// The read models failed.
    #[error("the read models cannot be read")]
    Sql(#[from] SqlError),
}

/// A key that was made. It is shown this once and kept nowhere.
#[derive(Clone, Serialize)]
pub struct MadeKey {
    /// Whose it is and for what.
    pub token: String,
    /// The token's id.
    pub uuid: TokenId,
    /// The key.
    pub key: String,
}

// By hand, so that no key ever reaches a log.
impl std::fmt::Debug for MadeKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MadeKey").field("token", &self.token).finish_non_exhaustive()
    }
}

/// What came of applying a file.
#[derive(Debug)]
pub struct Applied {
    /// What was to be done, and was unless it was a dry run.
    pub plan: Plan,
    /// Keys made on the way.
    pub keys: Vec<MadeKey>,
    /// Position of the last event that was appended.
    pub position: Option<crate::events::envelope::Position>,
}

/// The parts that apply a site.
#[derive(Clone)]
pub struct Site {
    /// What exists.
    pub registry: Arc<Registry>,
    /// Commands on the registry.
    pub registry_commands: Arc<RegistryCommands>,
    /// Commands on allocations.
    pub allocations: Arc<Allocations>,
    /// Users and tokens.
    pub directory: Directory,
    /// The read models, which know who has which account.
    pub read: ReadDb,
}

impl Site {
    /// Validates a file and says what would change. Nothing is changed.
    pub async fn plan(&self, file: &SiteFile, prune: bool, now: DateTime<Utc>) -> Result<Plan, ApplyError> {
        let known = self.known(file, prune).await?;
        let ids = Ids::of(file, &known);
        let desired = Desired::of(file, &known, &ids, now);
        let claims = claims(&known, &desired);
        let prunes = prune && file.resources.is_some();
        let named: HashSet<ResourceId> = desired.resources.iter().flatten().map(|facts| facts.resource).collect();
        let taken = account_holders(&self.read, &claims, |holder| prunes || named.contains(&holder)).await?;
        validate(&Given { file, known: &known, ids: &ids, desired: &desired, claims: &claims, taken: &taken }, now)?;
        Ok(plan(file, &known, &ids, desired, prune, now))
    }

    /// Validates, plans and carries the plan out; `on_progress` is called with how many of its steps are done.
    pub async fn apply(
        &self,
        file: &SiteFile,
        prune: bool,
        meta: &CommandMeta,
        now: DateTime<Utc>,
        on_progress: &(dyn Fn(usize, usize) + Sync),
    ) -> Result<Applied, ApplyError> {
        let plan = self.plan(file, prune, now).await?;
        let mut applied = Applied { plan, keys: Vec::new(), position: None };
        let steps: Vec<(Kind, String, Step)> = applied
            .plan
            .changes
            .iter()
            .filter_map(|change| Some((change.kind, change.slug.clone(), change.step.clone()?)))
            .collect();
        let total = steps.len();
        let mut resources: Vec<(String, Step)> = Vec::new();
        let mut tokens = Vec::new();
        let mut done = 0;
        for (kind, slug, step) in steps {
            match step {
                Step::Register(_) | Step::ChangeResource(_) => resources.push((slug, step)),
                Step::MakeToken(_) | Step::RevokeToken(_) => tokens.push(step),
                step => {
                    // Resources come before what retires the objects they belong to.
                    if kind < Kind::Resource && !resources.is_empty() {
                        done += self.resources(std::mem::take(&mut resources), meta, &mut applied).await?;
                    }
                    self.step(kind, &slug, step, meta, now, &mut applied).await?;
                    done += 1;
                }
            }
            on_progress(done, total);
            if resources.len() >= BATCH {
                done += self.resources(std::mem::take(&mut resources), meta, &mut applied).await?;
                on_progress(done, total);
            }
        }
        self.resources(resources, meta, &mut applied).await?;
        for step in tokens {
            self.token(step, now, &mut applied).await?;
        }
        on_progress(total, total);
        Ok(applied)
    }

    /// What is, as far as the file speaks of it.
    async fn known(&self, file: &SiteFile, prune: bool) -> Result<Known, ApplyError> {
        let (mut known, wanted) = {
            let state = self.registry.read();
            let mut known = Known::of(&state);
            let named: Vec<ResourceId> = file.resources.iter().flatten().map(super::file::ResourceSpec::id).collect();
            let wanted: Vec<ResourceId> = if prune && file.resources.is_some() {
                state.resources().map(|(id, _)| id).collect()
            } else {
                named.into_iter().filter(|id| state.resource(*id).is_some()).collect()
            };
            let policies = file.policies.iter().flatten().map(|spec| spec.head.id(Kind::Policy).into());
            known.deleted = policies.filter(|id| state.was_deleted(*id)).collect();
            (known, wanted)
        };
        for some in wanted.chunks(BATCH) {
            let books = self.allocations.books_of(some).await.map_err(ApplyError::Read)?;
            known.resources.extend(books.into_iter().flatten().map(|book| (book.facts.resource, book.facts.clone())));
        }
        known.users = self.directory.all_users().await?.into_iter().map(|user| (user.username.clone(), user)).collect();
        for policy in known.policies.values() {
            for id in &policy.external_recipients {
                if let Some(email) = self.directory.addresses(&[*id]).await?.pop() {
                    known.addresses.insert(*id, email);
                }
            }
        }
        known.tokens = self.directory.tokens().await?;
        for spec in file.tokens.iter().flatten() {
            known.token_by_key.push(match &spec.key {
                KeySource::Given(key) => self.directory.token_of_key(key).await?,
                KeySource::Unset(_) | KeySource::Made => None,
            });
        }
        Ok(known)
    }

    async fn step(
        &self,
        kind: Kind,
        slug: &str,
        step: Step,
        meta: &CommandMeta,
        now: DateTime<Utc>,
        applied: &mut Applied,
    ) -> Result<(), ApplyError> {
        let commands = &self.registry_commands;
        let position = match step {
            Step::User(details) => {
                self.directory.put_user(&details, now).await?;
                Ok(None)
            }
            Step::Group(facts) => {
                commands.put_group(facts.group, meta, |_| Ok(facts.clone())).await.map(|put| put.position)
            }
            Step::Customer(facts) => {
                commands.put_customer(facts.customer, meta, |_| Ok(facts.clone())).await.map(|put| put.position)
            }
            Step::Project(facts) => {
                commands.put_project(facts.project, meta, |_| Ok(facts.clone())).await.map(|put| put.position)
            }
            Step::Offering(facts) => {
                commands.put_offering(facts.offering, meta, |_| Ok(facts.clone())).await.map(|put| put.position)
            }
            Step::Policy(policy) => self.policy(*policy, meta, now).await?,
            Step::Register(_) | Step::ChangeResource(_) | Step::MakeToken(_) | Step::RevokeToken(_) => Ok(None),
        };
        let wrong = |source| ApplyError::Registry { kind, slug: slug.to_owned(), source };
        applied.position = applied.position.max(position.map_err(wrong)?);
        Ok(())
    }

    async fn policy(
        &self,
        policy: DesiredPolicy,
        meta: &CommandMeta,
        now: DateTime<Utc>,
    ) -> Result<Result<Option<crate::events::envelope::Position>, RegistryError>, ApplyError> {
        let mut facts = policy.facts;
        if let Some(emails) = policy.recipients {
            facts.external_recipients = self.directory.address_ids(&emails, now).await?.into_iter().collect();
        }
        let meta =
            CommandMeta { reason: policy.reason.map(Into::into).or_else(|| meta.reason.clone()), ..meta.clone() };
        Ok(self.registry_commands.put_policy(facts.policy, &meta, &|_| Ok(facts.clone())).await.map(|put| put.position))
    }

    /// Carries out steps on resources, each kind of command in bulk. Says how many there were.
    async fn resources(
        &self,
        steps: Vec<(String, Step)>,
        meta: &CommandMeta,
        applied: &mut Applied,
    ) -> Result<usize, ApplyError> {
        let count = steps.len();
        // Registration, then what a resource is called, whether it lives, and what it is given: each wave on its own, since a
        // batch takes each resource once. A resource that comes back to life does so before its limits change.
        let mut waves: [Vec<(String, ResourceId, AllocationCommand)>; 4] = Default::default();
        for (slug, step) in steps {
            match step {
                Step::Register(facts) => waves[0].push((slug, facts.resource, AllocationCommand::Register(facts))),
                Step::ChangeResource(ResourceChange { resource, details, limits, state }) => {
                    let details = details.map(|(name, backend_id)| AllocationCommand::ChangeDetails {
                        name: Some(name),
                        backend_id: Some(backend_id),
                    });
                    let ends = state.is_some_and(|state| !state.is_live());
                    let state = state.map(AllocationCommand::ChangeState);
                    let limits = limits.map(AllocationCommand::ChangeLimits);
                    let (second, third) = if ends { (limits, state) } else { (state, limits) };
                    for (wave, command) in [(1, details), (2, second), (3, third)] {
                        waves[wave].extend(command.map(|command| (slug.clone(), resource, command)));
                    }
                }
                _ => {}
            }
        }
        for wave in waves {
            for some in wave.chunks(BATCH) {
                let commands: Vec<_> = some.iter().map(|(_, id, command)| (*id, command.clone())).collect();
                let outcomes = self.allocations.execute_many(&commands, meta).await;
                for ((slug, _, _), outcome) in some.iter().zip(outcomes) {
                    let wrong = |source| ApplyError::Resource { slug: slug.clone(), source };
                    applied.position = applied.position.max(outcome.map_err(wrong)?.position);
                }
            }
        }
        Ok(count)
    }

    async fn token(&self, step: Step, now: DateTime<Utc>, applied: &mut Applied) -> Result<(), ApplyError> {
        match step {
            Step::RevokeToken(id) => {
                self.directory.revoke_token(id, now).await?;
            }
            Step::MakeToken(spec) => {
                let title = spec.title();
                let made = spec.key == KeySource::Made;
                let new = self.new_token(*spec).await?;
                let (uuid, key) = self.directory.create_token(new, now).await?;
                if made {
                    applied.keys.push(MadeKey { token: title, uuid, key });
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn offering_of(&self, slug: &str) -> Option<OfferingId> {
        let state = self.registry.read();
        state.offerings().find(|o| o.facts.facts.slug == slug).map(|o| o.facts.facts.offering)
    }

    async fn new_token(&self, spec: TokenSpec) -> Result<NewToken, ApplyError> {
        let user = self.directory.user_by_username(&spec.user.username.value).await?;
        let offering = spec.offering.as_ref().and_then(|slug| self.offering_of(&slug.value));
        Ok(NewToken {
            user: user.map_or_else(|| spec.user.id(), |user| user.id),
            role: spec.role,
            offering,
            label: spec.label,
            expires_at: spec.expires_at,
            key: match spec.key {
                KeySource::Given(key) => Some(key),
                KeySource::Unset(_) | KeySource::Made => None,
            },
        })
    }
}

//! Executes many commands at once: reads books together, decides one by one, appends together, one outcome for each.

use std::collections::HashSet;
use std::sync::Arc;

use super::books::Loaded;
use super::{Allocations, CommandError, CommandMeta, Executed, Plan};
use crate::commands::allocation::{AllocationCommand, Book, Refusal};
use crate::domain::ids::ResourceId;
use crate::store::{AppendRequest, Appended, StoreError};

/// A book that was looked for, if it could be read.
type LoadedOrNot = Result<Option<Loaded>, CommandError>;

impl Allocations {
    /// Executes a batch of commands, one outcome each, in the order given.
    ///
    /// A batch should be some hundreds: its resources are locked together. A resource that is named twice, or whose book
    /// somebody else wrote to in the meantime, is executed on its own afterwards.
    pub async fn execute_many(
        &self,
        commands: &[(ResourceId, AllocationCommand)],
        meta: &CommandMeta,
    ) -> Vec<Result<Executed, CommandError>> {
        let mut outcomes: Vec<Option<Result<Executed, CommandError>>> = commands.iter().map(|_| None).collect();
        let mut seen = HashSet::with_capacity(commands.len());
        let first: Vec<usize> = (0..commands.len()).filter(|i| seen.insert(commands[*i].0)).collect();
        {
            // Locks are taken in one order by everybody, so that two batches cannot wait for each other.
            let mut resources: Vec<ResourceId> = first.iter().map(|i| commands[*i].0).collect();
            resources.sort_unstable();
            let mut serial = Vec::with_capacity(resources.len());
            for resource in resources {
                serial.push(self.lock(resource).await);
            }
            self.together(commands, &first, meta, &mut outcomes).await;
        }
        let mut finished = Vec::with_capacity(commands.len());
        for (outcome, (resource, command)) in outcomes.into_iter().zip(commands) {
            finished.push(match outcome {
                Some(outcome) => outcome,
                None => self.execute(*resource, command, meta).await,
            });
        }
        finished
    }

    /// One attempt for each; commands without an outcome must be executed individually.
    async fn together(
        &self,
        commands: &[(ResourceId, AllocationCommand)],
        chosen: &[usize],
        meta: &CommandMeta,
        outcomes: &mut [Option<Result<Executed, CommandError>>],
    ) {
        let wanted: Vec<_> = chosen.iter().map(|i| (commands[*i].0, self.registry.book_hint(commands[*i].0))).collect();
        // Where the bulk read fails, each command meets the failure, or not, on its own.
        let Ok(mut loaded) = self.books.load_many(&wanted).await else { return };
        let resources: Vec<ResourceId> = wanted.iter().map(|(resource, _)| *resource).collect();
        let Ok(()) = self.recall_many(&resources, &mut loaded, &[]).await else { return };
        let mut plans = Vec::with_capacity(chosen.len());
        for (index, loaded) in chosen.iter().copied().zip(loaded) {
            let (resource, command) = &commands[index];
            let loaded = loaded.and_then(|loaded| self.may_be_decided(command).map(|()| loaded));
            match loaded.and_then(|loaded| self.plan(*resource, loaded, command, meta)) {
                Ok(plan) => plans.push((index, plan)),
                Err(CommandError::Refused(Refusal::StaleRegistry { .. }) | CommandError::NoSuchResource(_)) => {}
                Err(error) => outcomes[index] = Some(Err(error)),
            }
        }
        let closed = self.append_some(plans.iter_mut().map(|(_, plan)| plan.close.take())).await;
        let mut open: Vec<(usize, Plan)> = Vec::with_capacity(plans.len());
        for ((index, plan), closed) in plans.into_iter().zip(closed) {
            match closed {
                None | Some(Ok(_)) => open.push((index, plan)),
                Some(Err(error)) => self.failed(commands[index].0, error, &mut outcomes[index]),
            }
        }
        let appended = self.append_some(open.iter_mut().map(|(_, plan)| plan.append.take())).await;
        for ((index, plan), appended) in open.into_iter().zip(appended) {
            let resource = commands[index].0;
            match appended {
                // Nothing to append: on its own it makes sure that the book was the newest.
                None => {}
                Some(Ok(appended)) => {
                    outcomes[index] =
                        Some(Ok(self.done(resource, plan.decision, plan.stands, Some(appended.position))));
                }
                Some(Err(error)) => self.failed(resource, error, &mut outcomes[index]),
            }
        }
    }

    fn failed(&self, resource: ResourceId, error: StoreError, outcome: &mut Option<Result<Executed, CommandError>>) {
        self.books.forget(resource);
        if matches!(error, StoreError::Conflict { .. }) {
            crate::telemetry::metrics::conflict();
        }
        // A conflict, and an append of which nobody knows whether it happened, are decided again from the log.
        if !matches!(error, StoreError::Conflict { .. } | StoreError::Unknown(_)) {
            *outcome = Some(Err(error.into()));
        }
    }

    async fn append_some(
        &self,
        requests: impl Iterator<Item = Option<AppendRequest>>,
    ) -> Vec<Option<Result<Appended, StoreError>>> {
        let mut slots = Vec::new();
        let mut some = Vec::new();
        for request in requests {
            slots.push(request.is_some());
            some.extend(request);
        }
        let mut outcomes = if some.is_empty() { Vec::new() } else { self.store.append_many(some).await }.into_iter();
        slots.into_iter().map(|asked| if asked { outcomes.next() } else { None }).collect()
    }

    /// Folded books of many resources, for reading. One that cannot be read fails all.
    pub async fn books_of(&self, resources: &[ResourceId]) -> Result<Vec<Option<Arc<Book>>>, CommandError> {
        self.read_many(resources, |one| one).await
    }

    /// The same without unreadable ones, which are reported to the log's guard.
    pub async fn readable_books_of(&self, resources: &[ResourceId]) -> Result<Vec<Option<Arc<Book>>>, CommandError> {
        self.read_many(resources, |one| one.or_else(passed_over)).await
    }

    async fn read_many(
        &self,
        resources: &[ResourceId],
        one: fn(LoadedOrNot) -> LoadedOrNot,
    ) -> Result<Vec<Option<Arc<Book>>>, CommandError> {
        let wanted: Vec<_> = resources.iter().map(|r| (*r, self.registry.book_hint(*r))).collect();
        let loaded = self.books.load_many(&wanted).await?;
        let loaded: Vec<_> = loaded.into_iter().map(one).collect::<Result<_, _>>()?;
        let read = resources.iter().zip(&loaded).filter(|(resource, _)| !self.books.has(**resource));
        for (resource, loaded) in read {
            if let Some(Loaded::Open(book)) = loaded {
                self.books.put(*resource, Arc::clone(book));
            }
        }
        let book = |loaded| match loaded {
            Loaded::Open(book) | Loaded::Sealed(book, _) => book,
        };
        Ok(loaded.into_iter().map(|l| l.map(book)).collect())
    }
}

fn passed_over(error: CommandError) -> LoadedOrNot {
    match error {
        CommandError::Unsound(_) | CommandError::Book(_) => Ok(None),
        other => Err(other),
    }
}

//! Facts that older versions of Sluice did not carry from book to book: the limits of earlier months, read from the
//! books of those months.
//!
//! This happens only if a policy looks back further than the book knows, and then once per book in memory: the result
//! is carried on. A yearly period looks back at most a dozen books.

use std::sync::Arc;

use super::books::{Books, Loaded};
use super::{Allocations, CommandError};
use crate::commands::allocation::{Book, PolicyInForce, stream_of};
use crate::domain::ids::ResourceId;
use crate::domain::limit_history::LimitHistory;
use crate::domain::period::Month;
use crate::events::envelope::StreamStart;
use crate::store::StoreError;

/// The months of older books that one resource's history lacks, oldest first.
struct Lacking {
    index: usize,
    resource: ResourceId,
    months: Vec<Month>,
}

impl Allocations {
    /// Completes the history of limits of a book before a decision.
    pub(super) async fn recall(
        &self,
        resource: ResourceId,
        loaded: Option<Loaded>,
        policies: &[Arc<PolicyInForce>],
    ) -> Result<Option<Loaded>, CommandError> {
        let mut one = [Ok(loaded)];
        self.recall_many(&[resource], &mut one, policies).await?;
        let [loaded] = one;
        loaded
    }

    /// The same for many books, in one read; `policies` are looked at besides those that apply.
    pub(super) async fn recall_many(
        &self,
        resources: &[ResourceId],
        loaded: &mut [Result<Option<Loaded>, CommandError>],
        policies: &[Arc<PolicyInForce>],
    ) -> Result<(), CommandError> {
        let lacking: Vec<Lacking> = resources
            .iter()
            .zip(&*loaded)
            .enumerate()
            .filter_map(|(index, (resource, loaded))| {
                let months = self.lacking(loaded.as_ref().ok()?.as_ref()?.book(), policies)?;
                Some(Lacking { index, resource: *resource, months })
            })
            .collect();
        if lacking.is_empty() {
            return Ok(());
        }
        for (Lacking { index, .. }, older) in lacking.iter().zip(self.books.histories(&lacking).await?) {
            match (older, &mut loaded[*index]) {
                (Ok(Some(older)), Ok(Some(Loaded::Open(book) | Loaded::Sealed(book, _)))) => {
                    let book = Arc::make_mut(book);
                    book.limit_history = book.limit_history.preceded_by(&older);
                }
                (Err(error), loaded) => *loaded = Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    /// The months whose books have to be read, so that what the policies look back to is known.
    fn lacking(&self, book: &Book, policies: &[Arc<PolicyInForce>]) -> Option<Vec<Month>> {
        if book.limit_history.whole {
            return None;
        }
        let month = self.month().max(book.month);
        let applying = self.registry.applicable(book.facts.offering, book.facts.customer);
        let applying = applying.iter().flat_map(|applicable| &applicable.policies);
        let wanted = applying.chain(policies).filter_map(|policy| policy.looks_back_to(month)).min()?;
        let last = book.limit_history.since;
        let months: Vec<Month> =
            std::iter::successors(Some(wanted.next()), |month| Some(month.next())).take_while(|m| *m <= last).collect();
        (!months.is_empty()).then_some(months)
    }
}

impl Books {
    /// What the books of the given months know of earlier limits, none where there are no such books; one outcome each.
    async fn histories(
        &self,
        lacking: &[Lacking],
    ) -> Result<Vec<Result<Option<LimitHistory>, CommandError>>, StoreError> {
        let streams: Vec<_> =
            lacking.iter().flat_map(|of| of.months.iter().map(|month| stream_of(of.resource, *month))).collect();
        let mut read = self.read_streams(&streams).await?.into_iter();
        let mut histories = Vec::with_capacity(lacking.len());
        for of in lacking {
            let books: Vec<StreamStart> = read.by_ref().take(of.months.len()).collect();
            histories.push(self.history(of, books).await);
        }
        Ok(histories)
    }

    async fn history(&self, of: &Lacking, books: Vec<StreamStart>) -> Result<Option<LimitHistory>, CommandError> {
        let mut history: Option<LimitHistory> = None;
        for (month, start) in of.months.iter().zip(books) {
            if let Some(book) = self.folded(of.resource, *month, start).await? {
                history = Some(match &history {
                    Some(older) => book.limit_history.preceded_by(older),
                    None => book.limit_history,
                });
            }
        }
        Ok(history)
    }
}

//! Pages of lists: the requested page, and the headers with the total.
//!
//! `page` counts from 1; `page_size` is 10 by default and 100 at most. `X-Result-Count` holds the total, so that a
//! `HEAD` on a list returns its count; `Link` names the first, previous, next and last page.

use axum::Json;
use axum::http::{HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::IntoParams;
use utoipa::openapi::schema::{Object, ObjectBuilder, Type};

use super::context::Context;
use super::error::ApiError;
use super::query::{Query, complaint};

/// The total number of rows of a list.
pub const RESULT_COUNT: HeaderName = HeaderName::from_static("x-result-count");

/// Rows of a page when nothing is said.
const PAGE_SIZE_DEFAULT: u64 = 10;
/// Rows of a page at most.
const PAGE_SIZE_MAX: u64 = 100;

/// The parameters of every list, for the API's description.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "describes parameters that `Page` reads")]
pub struct PageParams {
    /// The page, from 1.
    #[param(minimum = 1)]
    page: Option<u64>,
    /// Rows per page: 10 unless given; a number out of 1 to 100 is brought into these bounds.
    #[param(schema_with = any_whole_number)]
    page_size: Option<i64>,
    /// Only these fields of each row; may be repeated.
    field: Option<Vec<String>>,
}

fn any_whole_number() -> Object {
    ObjectBuilder::new().schema_type(Type::Integer).build()
}

/// The page that is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Page {
    /// From 1.
    pub number: u64,
    /// Rows on it.
    pub size: u64,
}

impl Page {
    /// Reads `page` and `page_size`. A whole number out of bounds is brought into them, as Waldur does.
    pub fn of(query: &Query) -> Result<Self, ApiError> {
        let number = match query.last("page") {
            None => 1,
            Some(text) => text.parse().ok().filter(|n| *n >= 1).ok_or(ApiError::InvalidPage)?,
        };
        let size = match query.last("page_size") {
            None => None,
            Some(text) => Some(whole(text).ok_or_else(|| complaint("page_size", text, "a whole number"))?),
        };
        let size = size.filter(|size| *size >= 1);
        Ok(Self { number, size: size.unwrap_or(PAGE_SIZE_DEFAULT).min(PAGE_SIZE_MAX) })
    }

    fn last(self, total: u64) -> u64 {
        total.div_ceil(self.size).max(1)
    }

    /// The page among `total` rows; there is always a first one, and none behind the last.
    pub fn within(self, total: u64) -> Result<Self, ApiError> {
        if self.number > self.last(total) { Err(ApiError::InvalidPage) } else { Ok(self) }
    }

    /// The same page for a query of the read models.
    pub fn of_rows(self) -> Result<crate::projections::Page, ApiError> {
        let number = u32::try_from(self.number).map_err(|_| ApiError::InvalidPage)?;
        let size = u32::try_from(self.size).map_err(|_| ApiError::InvalidPage)?;
        Ok(crate::projections::Page { number, size })
    }

    /// Rows before it.
    pub fn offset(self) -> u64 {
        (self.number - 1).saturating_mul(self.size)
    }

    /// The rows of this page out of all.
    pub fn cut<T>(self, rows: Vec<T>) -> Vec<T> {
        let skip = usize::try_from(self.offset()).unwrap_or(usize::MAX);
        rows.into_iter().skip(skip).take(usize::try_from(self.size).unwrap_or(usize::MAX)).collect()
    }
}

/// A whole number of any length; one below zero is 0, one that no page is as large as the largest.
fn whole(text: &str) -> Option<u64> {
    let (below, digits) = text.strip_prefix('-').map_or((false, text), |digits| (true, digits));
    let digits = digits.strip_prefix('+').unwrap_or(digits);
    let is_one = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    is_one.then(|| if below { 0 } else { digits.parse().unwrap_or(u64::MAX) })
}

/// Answers with a page of rows that are all at hand, each made by `row` only if it is on the page.
pub fn paged<T, R: Serialize>(ctx: &Context, rows: Vec<T>, row: impl FnMut(T) -> R) -> Result<Response, ApiError> {
    let total = rows.len() as u64;
    let page = Page::of(&ctx.query)?.within(total)?;
    let rows: Vec<R> = page.cut(rows).into_iter().map(row).collect();
    listed(ctx, page, total, &rows)
}

/// Answers with the rows of a page and the headers that belong to it.
pub fn listed<R: Serialize>(ctx: &Context, page: Page, total: u64, rows: &[R]) -> Result<Response, ApiError> {
    let rows = rows.iter().map(|row| ctx.shown(row)).collect::<Result<Vec<_>, _>>()?;
    let mut response = Json(rows).into_response();
    let headers = response.headers_mut();
    headers.insert(RESULT_COUNT, HeaderValue::from(total));
    if let Ok(value) = HeaderValue::from_str(&links(&ctx.base, &ctx.path, &ctx.query, page, total)) {
        headers.insert(header::LINK, value);
    }
    Ok(response)
}

/// The first, previous, next and last page, as the `Link` header has them.
pub fn links(base: &str, path: &str, query: &Query, page: Page, total: u64) -> String {
    let last = page.last(total);
    let mut links = vec![(1, "first")];
    if page.number > 1 {
        links.push((page.number - 1, "prev"));
    }
    if page.number < last {
        links.push((page.number + 1, "next"));
    }
    links.push((last, "last"));
    let address = |number| format!("{base}{path}?{}", query.with_page(number));
    links.iter().map(|(number, rel)| format!("<{}>; rel=\"{rel}\"", address(*number))).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_brought_into_bounds_and_pages_are_not() {
        let page = |query| Page::of(&Query::parse(query));
        assert_eq!(page("").unwrap(), Page { number: 1, size: 10 });
        assert_eq!(page("page=2&page_size=1000").unwrap(), Page { number: 2, size: 100 });
        assert_eq!(page("page_size=0").unwrap().size, 10);
        assert_eq!(page("page_size=-5").unwrap().size, 10);
        assert_eq!(page("page_size=99999999999999999999999").unwrap().size, 100);
        for bad in ["page_size=", "page_size=x", "page_size=1.5", "page_size=-", "page_size=1e2"] {
            assert!(matches!(page(bad), Err(ApiError::Invalid(e)) if e.0.contains_key("page_size")), "{bad}");
        }
        for bad in ["page=0", "page=-1", "page=x", "page="] {
            assert!(matches!(page(bad), Err(ApiError::InvalidPage)), "{bad}");
        }
        let second = page("page=2").unwrap();
        assert_eq!(second.within(11).unwrap().offset(), 10);
        assert!(second.within(10).is_err());
        assert!(page("").unwrap().within(0).is_ok());
        assert_eq!(second.cut((0..25).collect::<Vec<_>>()), (10..20).collect::<Vec<_>>());
    }
}

//! References to objects in requests: by UUID in either spelling, by address, or by slug.

use uuid::Uuid;

/// Reads a UUID: 32 hex digits, with or without dashes, and no third spelling.
pub fn parse_uuid(text: &str) -> Option<Uuid> {
    matches!(text.len(), 32 | 36).then(|| Uuid::try_parse(text).ok()).flatten()
}

/// The UUID that the text is, or that an address ends with.
pub fn uuid_in(text: &str) -> Option<Uuid> {
    parse_uuid(last_segment(text))
}

/// The last segment of an address; of anything else the text itself.
pub fn last_segment(text: &str) -> &str {
    let text = text.trim();
    let path = text.split(['?', '#']).next().unwrap_or(text);
    path.trim_end_matches('/').rsplit('/').next().unwrap_or(path)
}

/// What a request may name an object by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reference {
    /// By its id.
    Uuid(Uuid),
    /// By its slug.
    Slug(String),
}

impl Reference {
    /// Reads a reference; `collection` is the segment that an address must have before its last (`customers`).
    pub fn parse(text: &str, collection: &str) -> Option<Self> {
        let trimmed = text.trim();
        let segment = last_segment(trimmed);
        if trimmed.contains('/') {
            let path = trimmed.split(['?', '#']).next().unwrap_or(trimmed).trim_end_matches('/');
            if path.rsplit('/').nth(1) != Some(collection) {
                return None;
            }
            return parse_uuid(segment).map(Self::Uuid);
        }
        match parse_uuid(segment) {
            Some(uuid) => Some(Self::Uuid(uuid)),
            None if !segment.is_empty() && segment.len() <= 255 => Some(Self::Slug(segment.to_owned())),
            None => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "7e500000000040008000000000000001";

    #[test]
    fn references_are_ids_addresses_or_slugs() {
        let id = Uuid::try_parse(HEX).unwrap();
        for (text, expected) in [
            (HEX, Some(Reference::Uuid(id))),
            ("7e500000-0000-4000-8000-000000000001", Some(Reference::Uuid(id))),
            ("http://x/api/customers/7e500000-0000-4000-8000-000000000001/", Some(Reference::Uuid(id))),
            ("/api/customers/7e500000000040008000000000000001", Some(Reference::Uuid(id))),
            ("http://x/api/projects/7e500000000040008000000000000001/", None),
            ("http://x/api/customers/uni-a/", None),
            ("uni-a", Some(Reference::Slug("uni-a".into()))),
            ("", None),
        ] {
            assert_eq!(Reference::parse(text, "customers"), expected, "{text:?}");
        }
        assert_eq!(uuid_in("http://x/a/7e500000000040008000000000000001/?x=1"), Some(id));
        assert_eq!(parse_uuid("{7e500000-0000-4000-8000-000000000001}"), None);
    }
}

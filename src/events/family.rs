//! Declares a family of events: one enum, the stored type name of each variant, encoding and decoding.

/// Declares an event family; each variant wraps the struct that is its payload.
///
/// The stored type name carries a version (`usage_reported.v1`). A name is never given a new shape: a new shape is a new
/// name and an upcast.
#[macro_export]
macro_rules! event_family {
    ($(#[$doc:meta])* $family:ident { $($(#[$vdoc:meta])* $variant:ident($payload:ty) = $name:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq)]
        pub enum $family { $($(#[$vdoc])* $variant($payload),)+ }

        impl $family {
            /// Every stored type name of the family.
            pub const TYPES: &'static [&'static str] = &[$($name,)+];

            /// The stored type name.
            pub fn event_type(&self) -> &'static str {
                match self { $(Self::$variant(_) => $name,)+ }
            }

            /// The payload as JSON text.
            ///
            /// # Panics
            /// Never: payloads are plain structs with string keys.
            pub fn payload(&self) -> String {
                match self { $(Self::$variant(p) => serde_json::to_string(p).expect("a payload is plain data with string keys"),)+ }
            }

            /// Reads a stored event; `None` if the type belongs to another family.
            pub fn decode(event_type: &str, payload: &str) -> Option<Result<Self, serde_json::Error>> {
                match event_type {
                    $($name => Some(serde_json::from_str(payload).map(Self::$variant)),)+
                    _ => None,
                }
            }
        }
    };
}

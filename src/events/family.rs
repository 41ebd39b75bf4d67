//! Declares a family of events: one enum, the stored type name of each variant, encoding and decoding.

/// Declares an event family; each variant wraps the struct that is its payload.
///
/// The stored type name carries a version (`usage_reported.v1`). A name is never given a new shape: a new shape is a new
/// name, and what older names have (after a `|`) is read as the newest: the payload leaves out what they did not have.
#[macro_export]
macro_rules! event_family {
    ($(#[$doc:meta])* $family:ident { $($(#[$vdoc:meta])* $variant:ident($payload:ty) = $name:literal $(| $older:literal)*,)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq)]
        pub enum $family { $($(#[$vdoc])* $variant($payload),)+ }

        impl $family {
            /// Every stored type name of the family.
            pub const TYPES: &'static [&'static str] = &[$($name, $($older,)*)+];

            /// The type name that it is stored under.
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

            /// The payload as it may be appended: read back, and found to say the same.
            pub fn to_append(&self) -> Result<$crate::events::envelope::Payload, $crate::events::envelope::NotReadBack> {
                let event_type = self.event_type();
                let read = |text: &str| Self::decode(event_type, text);
                $crate::events::envelope::Payload::read_back(event_type, self.payload(), self, read)
            }

            /// Reads a stored event; `None` if the type belongs to another family.
            pub fn decode(event_type: &str, payload: &str) -> Option<Result<Self, serde_json::Error>> {
                match event_type {
                    $($name $(| $older)* => Some(serde_json::from_str(payload).map(Self::$variant)),)+
                    _ => None,
                }
            }
        }
    };
}

//! The protocol's messages and services, generated from its own definitions; see the README beside this file.
#![allow(clippy::all, clippy::pedantic, unused_qualifications, dead_code)]

/// What the definitions call `event_store`.
pub mod event_store {
    pub mod client {
        include!("generated/client.in");

        pub mod streams {
            include!("generated/streams.in");
        }

        pub mod gossip {
            include!("generated/gossip.in");
        }

        pub mod server_features {
            include!("generated/server_features.in");
        }
    }
}

/// What the definitions call `google`.
pub mod google {
    pub mod rpc {
        include!("generated/google_rpc.in");
    }
}

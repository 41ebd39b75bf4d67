//! Every limit of the service in one place, with its unit at the end of its name.
//!
//! Nothing grows without one of these limits: queues, pages, batches, caches, retries. The defaults fit a server with 2
//! cores and 100,000 resources.

use std::time::Duration;

/// Bounds on queues, pages, batches, caches and waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Events that one append may hold; more is refused.
    pub append_events_max: usize,
    /// Bytes of one payload; more is refused.
    pub payload_bytes_max: usize,
    /// Appends that may wait for the writer; further callers wait for room.
    pub append_queue_max: usize,
    /// Events that the writer puts into one transaction.
    pub group_events_max: usize,
    /// Streams whose version the writer remembers, about 40 bytes each.
    pub stream_heads_max: usize,
    /// Events that one read returns at most, whatever the caller asks for.
    pub read_events_max: usize,
    /// Bytes of payload with which one read ends, whatever the caller asks for: the event that reaches them is its last.
    pub read_bytes_max: usize,
    /// Memory for all who work through the log at the same time, bytes.
    pub read_memory: usize,
    /// Streams that one statement of the bulk read covers.
    pub read_streams_max: usize,
    /// Newest events that stay in memory, so that consumers need not read back what was just written.
    pub tail_events_max: usize,
    /// Bytes of payload among them.
    pub tail_bytes_max: usize,
    /// Connections that read the log.
    pub log_readers_max: u32,
    /// Connections that read the read models.
    pub read_model_readers_max: u32,
    /// Page cache of one reading connection, KiB.
    pub reader_cache_kib: u32,
    /// Page cache of one writing connection, KiB.
    pub writer_cache_kib: u32,
    /// Prepared statements that one connection keeps. Fewer than the program has would re-prepare the largest ones.
    pub statements_max: usize,
    /// Rows on their way from a connection to its reader.
    pub row_buffer_max: usize,
    /// How long a statement waits for another process' lock.
    pub lock_wait: Duration,
    /// How often to look for what another process appended.
    pub foreign_poll: Duration,
    /// How long to wait for the event store's server to answer one call, or to send the next event of a read.
    pub event_store_call: Duration,
    /// Attempts at one call of the event store's server, the first included.
    pub event_store_attempts_max: u32,
    /// Pause before the second attempt; it doubles, up to half a second.
    pub event_store_pause_first: Duration,
    /// Calls to the event store's server that one bulk has under way at a time.
    pub event_store_calls_max: usize,
    /// The longest pause between two looks at the event store's server when nothing comes; it begins with `foreign_poll`.
    pub event_store_poll_max: Duration,
    /// How often to look for what another process appended to a shared database, should its notification be lost.
    pub shared_poll: Duration,
    /// How long a lease on a shared database holds without being renewed: so long nobody leads when a leader dies.
    pub lease: Duration,
    /// How long a transaction on a server may be idle before the server ends it: its process is frozen or gone.
    pub idle_transaction_max: Duration,
    /// Events that a consumer gets at once.
    pub consumer_batch_events: usize,
    /// Folded allocation books that stay in memory while commands arrive. With fewer than a site has
    /// resources, a fleet that reports in turn reads the month of each book again at every report.
    pub books_max: usize,
    /// First pause of a consumer that failed; it doubles.
    pub consumer_retry_first: Duration,
    /// Longest pause of a consumer that keeps failing.
    pub consumer_retry_max: Duration,
    /// HTTP connections open at a time, live tails and agents included; further ones wait. Each takes a file descriptor,
    /// of which a process often has 1,024.
    pub connections_max: usize,
    /// Those among them that have shown no token, all together: the rest is left to those that have.
    pub stranger_connections_max: usize,
    /// Those among them that have shown no token and come from one address.
    pub address_connections_max: usize,
    /// Connections that one token may hold, but for those of a trusted proxy; 0 = any number.
    pub token_connections_max: usize,
    /// Live tails that one token may hold; 0 = any number.
    pub token_tails_max: usize,
    /// `WebSockets` of the built-in broker that one token may hold; 0 = any number.
    pub token_websockets_max: usize,
    /// How long a client may take nothing of what is written to it.
    pub write_stall: Duration,
    /// Requests without a good token that one address may make in a minute; 0 = any number.
    pub address_requests_per_minute: u64,
    /// Requests that one token may make in a minute; 0 = any number.
    pub token_requests_per_minute: u64,
    /// Events that requests with one token may append in a minute; 0 = any number.
    pub token_events_per_minute: u64,
    /// Bytes of events that requests with one token may append in a minute; 0 = any number.
    pub token_bytes_per_minute: u64,
    /// How often the token of a live stream is looked at again.
    pub token_check: Duration,
    /// How long a client may take to send the head of a request, from its first byte or from connecting.
    pub request_head: Duration,
    /// How long a connection may rest between two requests. Longer than a proxy keeps one, or it finds it closed.
    pub keep_alive: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            append_events_max: 1_000,
            payload_bytes_max: 3 << 20,
            append_queue_max: 1_024,
            group_events_max: 4_096,
            stream_heads_max: 131_072,
            read_events_max: 10_000,
            read_bytes_max: 2 << 20,
            read_memory: 64 << 20,
            read_streams_max: 512,
            tail_events_max: 16_384,
            tail_bytes_max: 16 << 20,
            log_readers_max: 3,
            read_model_readers_max: 4,
            reader_cache_kib: 2_048,
            writer_cache_kib: 8_192,
            statements_max: 256,
            row_buffer_max: 512,
            lock_wait: Duration::from_secs(10),
            foreign_poll: Duration::from_millis(250),
            event_store_call: Duration::from_secs(10),
            event_store_attempts_max: 10,
            event_store_pause_first: Duration::from_millis(50),
            event_store_calls_max: 100,
            event_store_poll_max: Duration::from_secs(2),
            shared_poll: Duration::from_secs(1),
            lease: Duration::from_secs(5),
            idle_transaction_max: Duration::from_secs(5),
            consumer_batch_events: 4_000,
            books_max: 16_384,
            consumer_retry_first: Duration::from_millis(100),
            consumer_retry_max: Duration::from_secs(30),
            connections_max: 512,
            stranger_connections_max: 256,
            address_connections_max: 128,
            token_connections_max: 128,
            token_tails_max: 10,
            token_websockets_max: 64,
            write_stall: Duration::from_secs(30),
            address_requests_per_minute: 1_200,
            token_requests_per_minute: 120_000,
            token_events_per_minute: 600_000,
            token_bytes_per_minute: 128 << 20,
            token_check: Duration::from_secs(2),
            request_head: Duration::from_secs(30),
            keep_alive: Duration::from_secs(90),
        }
    }
}

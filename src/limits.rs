//! Every bound of the service in one place, with its unit last in the name.
//!
//! Nothing grows without one of these: queues, pages, batches, caches, retries. The defaults fit a server with 2 cores and
//! 100,000 resources in well under 150 MiB.

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
    /// Prepared statements that one connection keeps. More than the program has, or the largest are made again and again.
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
    /// Pause before the second attempt; it doubles.
    pub event_store_pause_first: Duration,
    /// Calls to the event store's server that one bulk has under way at a time.
    pub event_store_calls_max: usize,
    /// How often to look for what another process appended to a shared database, should its notification be lost.
    pub shared_poll: Duration,
    /// How long a lease on a shared database holds without being renewed: so long nobody leads when a leader dies.
    pub lease: Duration,
    /// How long a transaction on a server may stand still before the server ends it: its process is frozen or gone.
    pub idle_transaction_max: Duration,
    /// Events that a consumer gets at once.
    pub consumer_batch_events: usize,
    /// Folded allocation books that stay in memory while commands come, about 10 KiB each. With fewer than a site has
    /// resources, a fleet that reports in turn reads the month of each book again at every report.
    pub books_max: usize,
    /// First pause of a consumer that failed; it doubles.
    pub consumer_retry_first: Duration,
    /// Longest pause of a consumer that keeps failing.
    pub consumer_retry_max: Duration,
    /// HTTP connections open at a time, live tails and agents included; further ones wait. Each takes a file descriptor,
    /// of which a process often has 1,024.
    pub connections_max: usize,
    /// How long a client may take to send the head of a request, from its first byte or from connecting.
    pub request_head: Duration,
    /// How long a connection may rest between two requests. Longer than a proxy keeps one, or it finds it closed.
    pub keep_alive: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            append_events_max: 1_000,
            payload_bytes_max: 1 << 20,
            append_queue_max: 1_024,
            group_events_max: 4_096,
            stream_heads_max: 131_072,
            read_events_max: 10_000,
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
            event_store_attempts_max: 5,
            event_store_pause_first: Duration::from_millis(50),
            event_store_calls_max: 100,
            shared_poll: Duration::from_secs(1),
            lease: Duration::from_secs(5),
            idle_transaction_max: Duration::from_secs(5),
            consumer_batch_events: 4_000,
            books_max: 16_384,
            consumer_retry_first: Duration::from_millis(100),
            consumer_retry_max: Duration::from_secs(30),
            connections_max: 512,
            request_head: Duration::from_secs(30),
            keep_alive: Duration::from_secs(90),
        }
    }
}

//! The frame codec against everything: arbitrary bytes, arbitrary cuts, and frames that come back as they went.

use proptest::prelude::*;
use sluice::dispatch::stomp::{Command, Decoder, DecoderLimits, Frame, FrameError, HeartBeat, Item};

const LIMITS: DecoderLimits = DecoderLimits { headers_max: 8, header_bytes_max: 200, body_bytes_max: 500 };

/// What one frame can make a decoder keep: an unfinished line, whole headers, the body.
const KEPT_MAX: usize = (8 + 1) * (200 + 1) + 500;

fn decode(bytes: &[u8]) -> Result<Vec<Item>, FrameError> {
    Decoder::new(LIMITS).feed(bytes)
}

/// Frames and heart-beats, however the stream is cut; heart-beats that follow each other count as one.
fn in_pieces(pieces: &[&[u8]]) -> Result<Vec<Item>, FrameError> {
    let mut decoder = Decoder::new(LIMITS);
    let mut items: Vec<Item> = Vec::new();
    for piece in pieces {
        for item in decoder.feed(piece)? {
            if item != Item::HeartBeat || items.last() != Some(&Item::HeartBeat) {
                items.push(item);
            }
        }
        assert!(decoder.kept_bytes() <= KEPT_MAX, "{} bytes are kept", decoder.kept_bytes());
    }
    Ok(items)
}

fn commands() -> impl Strategy<Value = Command> {
    prop::sample::select(vec![
        Command::Connect,
        Command::Connected,
        Command::Send,
        Command::Subscribe,
        Command::Ack,
        Command::Disconnect,
        Command::Message,
        Command::Receipt,
        Command::Error,
    ])
}

prop_compose! {
    fn frames()(
        command in commands(),
        headers in prop::collection::vec(("[a-z:\\\\\r\n-]{1,12}", "[ -~\r\n\\\\:äß]{0,30}"), 0..6),
        body in prop::collection::vec(any::<u8>(), 0..300),
    ) -> Frame {
        let plain = matches!(command, Command::Connect | Command::Connected);
        let headers = headers.into_iter().filter(|(name, _)| name != "content-length").map(|(name, value)| {
            if plain {
                // The two frames without escapes: a name has no colon, and neither holds a line end.
                let name: String = name.chars().filter(|c| !matches!(c, ':' | '\r' | '\n')).collect();
                (format!("n{name}"), value.replace(['\r', '\n'], ""))
            } else {
                (name, value)
            }
        }).collect();
        Frame { command, headers, body: if command.has_body() { body } else { Vec::new() } }
    }
}

/// Bytes that look like the protocol more often than chance would have it.
fn almost_frames() -> impl Strategy<Value = Vec<u8>> {
    let pieces = prop::sample::select(vec![
        &b"SEND\n"[..],
        b"STOMP\r\n",
        b"CONNECT\n",
        b"MESSAGE\n",
        b"ACK\n",
        b"destination:/amq/queue/q\n",
        b"content-length:5\n",
        b"content-length:99999999999999999999\n",
        b"content-length:-1\n",
        b"a\\tb:c\n",
        b"heart-beat:0,0\n",
        b":\n",
        b"\n",
        b"\r\n",
        b"\r",
        b"\0",
        b"hello",
        b"\xff\xfe",
        b"\\",
    ]);
    prop::collection::vec(
        prop_oneof![4 => pieces.prop_map(<[u8]>::to_vec), 1 => prop::collection::vec(any::<u8>(), 0..40)],
        0..30,
    )
    .prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn a_frame_comes_back_as_it_went(frame in frames()) {
        let items = decode(&frame.encode()).unwrap();
        prop_assert_eq!(items.len(), 1);
        let Item::Frame(back) = &items[0] else { panic!("no frame") };
        let length = frame.body.len().to_string();
        let mut expected = frame.clone();
        if !frame.body.is_empty() {
            expected.headers.push(("content-length".to_owned(), length));
        }
        prop_assert_eq!(back, &expected);
    }

    #[test]
    fn cuts_change_nothing(bytes in almost_frames(), cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12)) {
        let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
        at.extend([0, bytes.len()]);
        at.sort_unstable();
        let pieces: Vec<&[u8]> = at.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect();
        prop_assert_eq!(in_pieces(&pieces), in_pieces(&[&bytes]));
    }

    #[test]
    fn a_stream_cut_at_every_position_is_the_same_stream(frames in prop::collection::vec(frames(), 1..3)) {
        let bytes: Vec<u8> = frames.iter().flat_map(|frame| [frame.encode(), b"\n\r\n".to_vec()].concat()).collect();
        let whole = in_pieces(&[&bytes]).unwrap();
        prop_assert_eq!(whole.iter().filter(|item| matches!(item, Item::Frame(_))).count(), frames.len());
        for at in 0..=bytes.len() {
            prop_assert_eq!(&in_pieces(&[&bytes[..at], &bytes[at..]]).unwrap(), &whole);
        }
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        prop_assert_eq!(&in_pieces(&single).unwrap(), &whole);
    }

    #[test]
    fn arbitrary_bytes_end_in_items_or_an_error_and_never_grow(bytes in prop::collection::vec(any::<u8>(), 0..4000), size in 1_usize..64) {
        let mut decoder = Decoder::new(LIMITS);
        for piece in bytes.chunks(size) {
            match decoder.feed(piece) {
                Ok(_) => prop_assert!(decoder.kept_bytes() <= KEPT_MAX),
                Err(error) => {
                    prop_assert_eq!(decoder.kept_bytes(), 0);
                    prop_assert_eq!(decoder.feed(b"\n"), Err(error));
                    break;
                }
            }
        }
    }

    #[test]
    fn a_frame_that_never_ends_is_refused_within_its_bounds(fill in prop::sample::select(vec![b'a', b':', b'\\', b' ', 0xc3]), start in prop::sample::select(vec![&b""[..], b"SEND\n", b"SEND\na:", b"SEND\n\n", b"SEND\ncontent-length:500\n\n"])) {
        let mut decoder = Decoder::new(LIMITS);
        let _ = decoder.feed(start);
        let refused = (0..KEPT_MAX + 2).find_map(|_| decoder.feed(&[fill]).err());
        prop_assert!(refused.is_some(), "{:?}", decoder);
    }

    #[test]
    fn heart_beats_are_two_numbers_or_refused(text in "[-0-9, .a]{0,14}") {
        if let Ok(beat) = text.parse::<HeartBeat>() {
            let spelled: Vec<u32> = text.split(',').map(|n| n.parse().unwrap()).collect();
            prop_assert_eq!(spelled, vec![beat.sends_ms, beat.wants_ms]);
        }
    }
}

#[test]
fn each_breach_is_named() {
    let long = vec![b'x'; 600];
    let many = b"SEND\n".iter().copied().chain(b"a:b\n".repeat(9)).collect::<Vec<u8>>();
    let line = [b"SEND\na:", &long[..]].concat();
    let body = [b"SEND\n\n", &long[..]].concat();
    for (bytes, error) in [
        (&b"HELLO\n"[..], FrameError::UnknownCommand("HELLO".into())),
        (b"send\n", FrameError::UnknownCommand("send".into())),
        (&long, FrameError::CommandTooLong),
        (&many, FrameError::TooManyHeaders(8)),
        (&line, FrameError::HeaderTooLong(200)),
        (b"SEND\nnothing\n", FrameError::HeaderWithoutName),
        (b"SEND\n:value\n", FrameError::HeaderWithoutName),
        (b"SEND\na:\0\n", FrameError::ControlByte),
        (b"SEND\na:b\rc\n", FrameError::ControlByte),
        (b"\rSEND\n", FrameError::ControlByte),
        (b"SEND\na:b\\t\n", FrameError::Escape),
        (b"SEND\na:b\\\n", FrameError::Escape),
        (b"SEND\na:\xff\n", FrameError::Utf8),
        (b"SEND\ncontent-length:+5\n\n", FrameError::ContentLength),
        (b"SEND\ncontent-length:\n\n", FrameError::ContentLength),
        (b"SEND\ncontent-length:99999999999999999999999\n\n", FrameError::ContentLength),
        (b"SEND\ncontent-length:501\n\n", FrameError::BodyTooLong(500)),
        (&body, FrameError::BodyTooLong(500)),
        (b"ACK\nid:1\n\nbody\0", FrameError::UnexpectedBody("ACK")),
        (b"SEND\ncontent-length:2\n\nabc\0", FrameError::MissingEnd),
    ] {
        assert_eq!(decode(bytes), Err(error), "{:?}", String::from_utf8_lossy(bytes));
    }
}

#[test]
fn the_frames_of_the_site_agent_are_read() {
    let connect = b"STOMP\naccept-version:1.2\nheart-beat:10000,10000\nhost:v\nlogin:u\npasscode:se:cret\\x\n\n\x00";
    let Ok(items) = decode(connect) else { panic!("refused") };
    let Item::Frame(frame) = &items[0] else { panic!("no frame") };
    assert_eq!((frame.command, frame.header("passcode")), (Command::Connect, Some("se:cret\\x")));
    assert!(!format!("{frame:?}").contains("se:cret"), "a passcode is never shown");
    let twice = decode(b"SUBSCRIBE\r\nid:1\r\nid:2\r\n\r\n\x00\n").unwrap();
    let Item::Frame(frame) = &twice[0] else { panic!("no frame") };
    assert_eq!(frame.header("id"), Some("1"), "of a repeated header the first counts");
    assert_eq!(twice[1], Item::HeartBeat);
}

#[test]
fn heart_beats_agree_on_the_slower_side() {
    let beat = |text: &str| text.parse::<HeartBeat>().unwrap();
    let millis = |n| Some(std::time::Duration::from_millis(n));
    let server = beat("5000,7000");
    for (client, sends, expects) in [
        ("10000,10000", millis(10_000), millis(10_000)),
        ("0,0", None, None),
        ("100,0", None, millis(7_000)),
        ("0,100", millis(5_000), None),
    ] {
        assert_eq!((server.sending(beat(client)), server.receiving(beat(client))), (sends, expects), "{client}");
    }
    for wrong in ["", "1", "1,", "1,-1", "1,2,3", " 1,2", "9999999999,0", "1.5,2"] {
        assert!(wrong.parse::<HeartBeat>().is_err(), "{wrong}");
    }
}

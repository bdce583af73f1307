//! `docs/protocol.md` is correct: its fields are those that are encoded, its examples can be decoded, and
//! its bytes are those on the wire.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
};

use fastworker::{
    protocol::{
        CallbackMessage, EventKind, RefusalCode, Reply, Request, ScheduleStatus, WorkerReply, WorkerRequest,
        WorkerStatus, codec, python_compat,
    },
    task::{
        DeliveryState, ErrorKind, LimitKind, LogLevel, ModuleStatus, NewTask, SerializationFormat, TaskPriority,
        TaskStatus, schedule::Overlap,
    },
};
use fastworker_tests::binary::root;
use proptest::{prelude::*, strategy::ValueTree as _, test_runner::TestRunner};
use serde::{Serialize, de::DeserializeOwned};

use super::shapes::ShapeTable;

/// A block of the document: lines that are indented, under the headings above them.
struct Block {
    line: usize,
    chapter: String,
    section: String,
    lines: Vec<String>,
}

fn blocks() -> Vec<Block> {
    let text = fs::read_to_string(root().join("docs/protocol.md")).expect("there is a document");
    let (mut chapter, mut section) = (String::new(), String::new());
    let mut blocks: Vec<Block> = Vec::new();
    let mut continues = false;
    for (number, line) in (1..).zip(text.lines()) {
        let is_block = line.starts_with("    ");
        match line.strip_prefix("    ") {
            Some(line) if continues => {
                blocks.last_mut().expect("started block").lines.push(line.to_owned());
            }
            Some(line) => blocks.push(Block {
                line: number,
                chapter: chapter.clone(),
                section: section.clone(),
                lines: vec![line.to_owned()],
            }),
            None => {
                if let Some(title) = line.strip_prefix("## ") {
                    title.clone_into(&mut chapter);
                    section.clear();
                } else if let Some(title) = line.strip_prefix("### ") {
                    title.clone_into(&mut section);
                }
            }
        }
        continues = is_block;
    }
    blocks
}

impl Block {
    /// Its lines, each with those below it that are indented further.
    fn items(&self) -> Vec<String> {
        let mut items: Vec<String> = Vec::new();
        for line in &self.lines {
            match (line.strip_prefix(' '), items.last_mut()) {
                (Some(rest), Some(item)) => {
                    item.push(' ');
                    item.push_str(rest.trim());
                }
                _ => items.push(line.clone()),
            }
        }
        items
    }
}

/// JSON without the spaces and breaks between its parts.
fn compact(text: &str) -> String {
    let (mut within, mut escaped) = (false, false);
    let keep = |character: &char| {
        within ^= *character == '"' && !escaped;
        escaped = *character == '\\' && !escaped;
        within || !character.is_whitespace()
    };
    text.chars().filter(keep).collect()
}

#[test]
fn the_document_lists_each_field_and_variant_as_encoded() {
    const EACH: usize = 1000;
    fn read<T: Serialize>(table: &ShapeTable, messages: &impl Strategy<Value = T>) {
        let mut runner = TestRunner::deterministic();
        for _ in 0..EACH {
            table.read(&messages.new_tree(&mut runner).expect("message expected").current());
        }
    }
    let table = ShapeTable::default();
    read(&table, &super::requests());
    read(&table, &super::replies());
    read(&table, &super::worker_requests());
    read(&table, &super::worker_replies());
    table.choice("TaskPriority", &TaskPriority::ALL.map(TaskPriority::as_str));
    table.open("TaskStatus", &TaskStatus::ALL);
    table.open("ErrorKind", &ErrorKind::ALL);
    table.choice("LogLevel", &LogLevel::ALL.map(LogLevel::as_str));
    table.open("LimitKind", &LimitKind::ALL);
    table.open("EventKind", &EventKind::ALL);
    table.choice("Overlap", &Overlap::ALL.map(Overlap::as_str));
    table.open("ScheduleStatus", &ScheduleStatus::ALL);
    table.open("RefusalCode", &RefusalCode::ALL);
    table.open("WorkerStatus", &WorkerStatus::ALL);
    table.open("ModuleStatus", &ModuleStatus::ALL);
    table.open("DeliveryState", &DeliveryState::ALL);

    let is_definition =
        |line: &String| line.starts_with(|first: char| first.is_ascii_uppercase()) && line.contains(" = ");
    let written = blocks().into_iter().flat_map(|block| block.items()).filter(is_definition);
    let documented: BTreeMap<String, String> =
        written.map(|line| (line.split(" = ").next().unwrap_or_default().trim().to_owned(), line)).collect();
    let known = table.lines();
    let plain = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut wrong = Vec::new();
    for (name, line) in &known {
        match documented.get(name) {
            Some(documented) if plain(documented) == *line => {}
            Some(documented) => wrong.push(format!("documented {}\nactual     {line}", plain(documented))),
            None => wrong.push(format!("it lacks   {line}")),
        }
    }
    wrong.extend(
        documented.iter().filter(|(name, _)| !known.contains_key(*name)).map(|(_, line)| format!("unknown    {line}")),
    );
    assert!(wrong.is_empty(), "docs/protocol.md is to be edited where\n{}", wrong.join("\n"));
}

/// The names of the variants, as serde lists them in the error for an unknown one.
fn variants<T: DeserializeOwned>() -> usize {
    let error = serde_json::from_str::<T>("\"no such thing\"").err().expect("there is no such thing").to_string();
    error.matches('`').count() / 2 - 1
}

#[test]
fn every_verb_has_an_example() {
    let shown = |chapter: &str, arrow: &str| {
        let lines = blocks().into_iter().filter(|block| block.chapter == chapter).flat_map(|block| block.items());
        let verbs = lines.filter_map(|line| {
            let message = line.strip_prefix(arrow)?.trim().strip_prefix(r#"{"v":1,"message":"#)?.to_owned();
            message.split('"').nth(1).map(str::to_owned)
        });
        verbs.collect::<BTreeSet<_>>().len()
    };
    let clients = "Between a client and the control plane";
    let workers = "Between a subworker and the control plane";
    assert_eq!(shown(clients, "→"), variants::<Request>(), "requests of clients");
    assert_eq!(shown(clients, "←"), variants::<Reply>(), "replies to clients");
    assert_eq!(shown(workers, "→"), variants::<WorkerRequest>(), "requests of subworkers");
    assert_eq!(shown(workers, "←"), variants::<WorkerReply>(), "replies to subworkers");
}

/// Whether encoding the message again gives the same string.
#[track_caller]
fn round_trips<T: Serialize + DeserializeOwned>(text: &str, place: &str) -> T {
    let text = compact(text);
    let message: T = codec::decode(text.as_bytes()).unwrap_or_else(|error| panic!("{place}: {error} in {text}"));
    let written = codec::encode(SerializationFormat::Json, &message);
    assert_eq!(text, String::from_utf8_lossy(&written), "{place}: the example is not what is written");
    message
}

#[test]
fn the_examples_in_json_match_the_encoder() {
    let mut read = 0;
    for block in blocks() {
        let place = format!("docs/protocol.md:{}", block.line);
        for item in block.items() {
            let request = item.strip_prefix("→ ");
            let reply = item.strip_prefix("← ");
            read += usize::from(request.is_some() || reply.is_some() || item.starts_with('{'));
            match (&*block.chapter, request, reply) {
                ("Between a client and the control plane", Some(text), _) => {
                    round_trips::<Request>(text, &place);
                }
                ("Between a client and the control plane", _, Some(text)) => {
                    round_trips::<Reply>(text, &place);
                }
                ("Between a subworker and the control plane", Some(text), _) => {
                    round_trips::<WorkerRequest>(text, &place);
                }
                ("Between a subworker and the control plane", _, Some(text)) => {
                    round_trips::<WorkerReply>(text, &place);
                }
                ("The original's dialect", Some(text), _) if text != "{}" => {
                    let read = python_compat::read(text.as_bytes(), Some(TaskPriority::Low));
                    assert!(read.is_ok(), "{place}: {text}");
                }
                ("The original's dialect", _, Some(text)) => {
                    let read = serde_json::from_str::<serde_json::Value>(text);
                    assert!(read.is_ok(), "{place}: {text}");
                }
                ("Callbacks", ..) if item.starts_with('{') => {
                    let message = serde_json::from_str::<CallbackMessage>(&item).expect(&place);
                    assert_eq!(serde_json::to_string(&message).expect("valid JSON"), compact(&item), "{place}");
                }
                _ if item.starts_with(r#"{"id""#) => {
                    let task = serde_json::from_str::<NewTask>(&item).expect(&place);
                    assert_eq!(serde_json::to_string(&task).expect("valid JSON"), compact(&item), "{place}");
                }
                _ => {}
            }
        }
    }
    assert!(read > 40, "the document has {read} examples only");
}

/// The bytes of a block: the text in front of two spaces, up to an ellipsis.
fn bytes(block: &Block) -> [Vec<u8>; 2] {
    let mut sides = [Vec::new(), Vec::new()];
    let mut side = 0;
    for line in &block.lines {
        let hex = match line.split_once('→').or_else(|| line.split_once('←')) {
            Some((_, rest)) => {
                side = usize::from(line.contains('←'));
                rest.trim_start()
            }
            None => line.trim_start(),
        };
        let hex = hex.split("  ").next().unwrap_or_default().trim_end_matches('…');
        let read = |byte| u8::from_str_radix(byte, 16).unwrap_or_else(|_| panic!("no bytes: {line}"));
        sides[side].extend(hex.split_whitespace().map(read));
    }
    sides
}

/// Cuts a frame into its length, its request id and its body.
fn frame(bytes: &[u8]) -> (u64, [u8; 4], &[u8]) {
    let (length, rest) = bytes.split_first_chunk().expect("eight bytes of length");
    let (id, body) = rest.split_first_chunk().expect("four bytes of a request id");
    assert!(id[0] & 0x80 != 0, "the highest bit of a request id is set");
    (u64::from_be_bytes(*length), *id, body)
}

#[test]
fn the_byte_by_byte_exchange_is_correct() {
    let all = blocks();
    let example = |arrow: &str| {
        let mut items = all.iter().filter(|block| block.section == "submit").flat_map(Block::items);
        items.find_map(|item| item.strip_prefix(arrow).map(compact)).expect("its example")
    };
    let request: Request = codec::decode(example("→ ").as_bytes()).expect("a request");
    let reply: Reply = codec::decode(example("← ").as_bytes()).expect("valid reply");
    let messages = |format| [codec::encode(format, &request), codec::encode(format, &reply)];

    for (section, format) in [("In JSON", SerializationFormat::Json), ("In postcard", SerializationFormat::Postcard)] {
        let block = all.iter().find(|block| block.section == section).expect("its section");
        let mut sides = bytes(block);
        if section == "In JSON" {
            // Both sides send their greeting first.
            for (side, protocol) in sides.iter_mut().zip([0x30, 0x31]) {
                let greeting: Vec<u8> = side.drain(..8).collect();
                assert_eq!(greeting, [0, b'S', b'P', 0, 0, protocol, 0, 0]);
            }
        }
        let mut ids = Vec::new();
        for (side, message) in sides.iter().zip(messages(format)) {
            let (length, id, body) = frame(side);
            assert_eq!(length, 4 + message.len() as u64, "{section}: the length of {message:x?}");
            match format {
                SerializationFormat::Json => assert!(message.starts_with(body), "{section}: {body:x?}"),
                SerializationFormat::Postcard => assert_eq!(body, message, "{section}: {body:x?} and {message:x?}"),
            }
            ids.push(id);
        }
        assert_eq!(ids[0], ids[1], "the reply has the id of its request");
    }
}

//! Stories of one-way lines.

use std::{future::poll_fn, time::Duration};

use tokio::time::timeout;

use super::{
    super::super::{Disconnected, Inbox},
    *,
};

const MAX: usize = 1024 * 1024;

fn inbox() -> Box<dyn Inbox> {
    Nng.inbox("tcp://127.0.0.1:0", MAX).expect("a free port")
}

async fn next(inbox: &dyn Inbox) -> Vec<u8> {
    let message = timeout(LONG, poll_fn(|context| inbox.poll_next(context))).await.expect("a message in time");
    message.expect("the socket works")
}

#[tokio::test]
async fn messages_come_in_order_and_all_of_them() {
    let inbox = inbox();
    let sender = Nng.pair_sender(inbox.address()).expect("an address");
    timeout(LONG, sender.connected()).await.expect("in time").expect("a connection");
    let bodies: Vec<Vec<u8>> = (0..500_u32).map(|number| number.to_be_bytes().repeat(1 + number as usize)).collect();
    let send = async {
        for body in &bodies {
            sender.send(body).await.expect("it is taken");
        }
    };
    let receive = async {
        for body in &bodies {
            assert!(next(&*inbox).await == *body);
        }
    };
    timeout(LONG, async { tokio::join!(send, receive) }).await.expect("in time");
}

#[tokio::test]
async fn who_reads_nothing_gets_no_more_than_fits_and_then_all() {
    let inbox = inbox();
    let sender = Nng.pair_sender(inbox.address()).expect("an address");
    let body = vec![7; MAX];
    let mut sent = 0;
    while timeout(Duration::from_millis(300), sender.send(&body)).await.is_ok() {
        sent += 1;
        assert!(sent < 100, "somebody holds {sent} MiB");
    }
    for _ in 0..sent {
        assert_eq!(next(&*inbox).await.len(), MAX);
    }
}

#[tokio::test]
async fn a_second_line_to_one_inbox_is_parted_and_the_first_goes_on() {
    let inbox = inbox();
    let first = Nng.pair_sender(inbox.address()).expect("an address");
    first.connected().await.expect("a connection");
    let second = Nng.pair_sender(inbox.address()).expect("an address");
    timeout(LONG, second.parted()).await.expect("it is dropped");
    assert_eq!(second.connected().await, Err(Disconnected));
    assert_eq!(second.send(b"lost").await, Err(Disconnected));
    first.send(b"heard").await.expect("it is taken");
    assert_eq!(next(&*inbox).await, b"heard");
}

#[tokio::test]
async fn a_peer_that_has_been_quiet_makes_room_for_another() {
    let inbox = inbox();
    let quiet = Nng.pair_sender(inbox.address()).expect("an address");
    quiet.connected().await.expect("a connection");
    let begun = Instant::now();
    let other = loop {
        let sender = Nng.pair_sender(inbox.address()).expect("an address");
        if sender.connected().await.is_ok() && timeout(Duration::from_millis(500), sender.parted()).await.is_err() {
            break sender;
        }
        assert!(begun.elapsed() < LONG, "it is refused for good");
    };
    timeout(LONG, quiet.parted()).await.expect("it is dropped");
    other.send(b"heard").await.expect("it is taken");
    assert_eq!(next(&*inbox).await, b"heard");
}

#[tokio::test]
async fn a_line_hears_that_its_inbox_is_gone_and_connects_to_no_other() {
    let inbox = inbox();
    let address = inbox.address().to_owned();
    let sender = Nng.pair_sender(&address).expect("an address");
    sender.connected().await.expect("a connection");
    drop(inbox);
    timeout(LONG, sender.parted()).await.expect("it hears of it");
    let later = Nng.inbox(&address, MAX).expect("the port is free again");
    assert_eq!(sender.send(b"too late").await, Err(Disconnected));
    let other = Nng.pair_sender(&address).expect("an address");
    timeout(LONG, other.send(b"in time")).await.expect("in time").expect("it is taken");
    assert_eq!(next(&*later).await, b"in time");
}

#[tokio::test]
async fn a_line_waits_for_an_inbox_that_opens_later_and_can_be_given_up() {
    let address = free_address();
    let sender = Nng.pair_sender(&address).expect("an address");
    assert!(timeout(Duration::from_millis(100), sender.connected()).await.is_err(), "nobody is there");
    let inbox = Nng.inbox(&address, MAX).expect("the port is free");
    timeout(LONG, sender.send(b"hello")).await.expect("in time").expect("it is taken");
    assert_eq!(next(&*inbox).await, b"hello");
    drop(Nng.pair_sender(&free_address()).expect("an address"));
    assert!(matches!(Nng.inbox(&address, MAX), Err(OpenError::InUse { .. })));
    assert!(matches!(Nng.pair_sender("tcp://127.0.0.1:0"), Err(OpenError::BadAddress { .. })));
}

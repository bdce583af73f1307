//! Tests of one-way messages over PAIR sockets.

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
    let message =
        timeout(TIMEOUT, poll_fn(|context| inbox.poll_next(context))).await.expect("a message within the timeout");
    message.expect("the socket works")
}

#[tokio::test]
async fn all_messages_arrive_in_order() {
    let inbox = inbox();
    let sender = Nng.pair_sender(inbox.address()).expect("an address");
    timeout(TIMEOUT, sender.connected()).await.expect("within the timeout").expect("a connection");
    let bodies: Vec<Vec<u8>> = (0..500_u32).map(|number| number.to_be_bytes().repeat(1 + number as usize)).collect();
    let send = async {
        for body in &bodies {
            sender.send(body).await.expect("it is accepted");
        }
    };
    let receive = async {
        for body in &bodies {
            assert!(next(&*inbox).await == *body);
        }
    };
    timeout(TIMEOUT, async { tokio::join!(send, receive) }).await.expect("within the timeout");
}

#[tokio::test]
async fn an_unread_inbox_accepts_only_what_fits_and_loses_nothing() {
    let inbox = inbox();
    let sender = Nng.pair_sender(inbox.address()).expect("an address");
    let body = vec![7; MAX];
    let mut sent = 0;
    while timeout(Duration::from_millis(300), sender.send(&body)).await.is_ok() {
        sent += 1;
        assert!(sent < 100, "{sent} MiB are buffered");
    }
    for _ in 0..sent {
        assert_eq!(next(&*inbox).await.len(), MAX);
    }
}

#[tokio::test]
async fn a_second_sender_is_disconnected_and_the_first_stays() {
    let inbox = inbox();
    let first = Nng.pair_sender(inbox.address()).expect("an address");
    first.connected().await.expect("a connection");
    let second = Nng.pair_sender(inbox.address()).expect("an address");
    timeout(TIMEOUT, second.disconnected()).await.expect("it is dropped");
    assert_eq!(second.connected().await, Err(Disconnected));
    assert_eq!(second.send(b"lost").await, Err(Disconnected));
    first.send(b"received").await.expect("it is accepted");
    assert_eq!(next(&*inbox).await, b"received");
}

#[tokio::test]
async fn a_quiet_peer_is_replaced_by_another() {
    let inbox = inbox();
    let quiet = Nng.pair_sender(inbox.address()).expect("an address");
    quiet.connected().await.expect("a connection");
    let started = Instant::now();
    let other = loop {
        let sender = Nng.pair_sender(inbox.address()).expect("an address");
        if sender.connected().await.is_ok() && timeout(Duration::from_millis(500), sender.disconnected()).await.is_err()
        {
            break sender;
        }
        assert!(started.elapsed() < TIMEOUT, "it is always refused");
    };
    timeout(TIMEOUT, quiet.disconnected()).await.expect("it is dropped");
    other.send(b"received").await.expect("it is accepted");
    assert_eq!(next(&*inbox).await, b"received");
}

#[tokio::test]
async fn a_sender_detects_that_its_inbox_closed_and_never_reconnects() {
    let inbox = inbox();
    let address = inbox.address().to_owned();
    let sender = Nng.pair_sender(&address).expect("an address");
    sender.connected().await.expect("a connection");
    drop(inbox);
    timeout(TIMEOUT, sender.disconnected()).await.expect("it detects the loss");
    let later = Nng.inbox(&address, MAX).expect("the port is free again");
    assert_eq!(sender.send(b"too late").await, Err(Disconnected));
    let other = Nng.pair_sender(&address).expect("an address");
    timeout(TIMEOUT, other.send(b"within the timeout")).await.expect("within the timeout").expect("it is accepted");
    assert_eq!(next(&*later).await, b"within the timeout");
}

#[tokio::test]
async fn a_sender_waits_for_an_inbox_that_opens_later() {
    let address = free_address();
    let sender = Nng.pair_sender(&address).expect("an address");
    assert!(timeout(Duration::from_millis(100), sender.connected()).await.is_err(), "no inbox listens");
    let inbox = Nng.inbox(&address, MAX).expect("the port is free");
    timeout(TIMEOUT, sender.send(b"hello")).await.expect("within the timeout").expect("it is accepted");
    assert_eq!(next(&*inbox).await, b"hello");
    drop(Nng.pair_sender(&free_address()).expect("an address"));
    assert!(matches!(Nng.inbox(&address, MAX), Err(OpenError::InUse { .. })));
    assert!(matches!(Nng.pair_sender("tcp://127.0.0.1:0"), Err(OpenError::BadAddress { .. })));
}

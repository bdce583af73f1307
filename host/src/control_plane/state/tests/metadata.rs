//! Metadata of tasks.

use super::*;

#[test]
fn metadata_travels_from_the_submission_to_the_lease_and_the_result() {
    let json = |text: &str| Json::parse(text).expect("JSON");
    let mut story = Story::with_worker(1);
    let task = NewTask { metadata: json(r#"{"tag":1}"#), ..task("a 1") };
    story.submit(vec![task], Notify::No);
    let lease = story.run(W);
    assert_eq!((lease.metadata.as_str(), lease.priority), (r#"{"tag":1}"#, TaskPriority::Normal));
    let added = Ended { metadata: json(r#"{"kind":"x"}"#), ..ended(lease.id, failure()) };
    story.work(W, 0, vec![added], 0);
    story.state.lookup(story.now, Lookup { ids: vec![id("a 1")], wait_ms: 0 }, To("lookup"));
    let expected = r#"{"kind":"x","tag":1}"#;
    let found = story.replies_to("lookup");
    let is_expected = |found: &Found| matches!(found, Found::Ended(result) if result.metadata.as_str() == expected);
    assert!(matches!(&found[..], [AnyReply::Client(Reply::Found(found))] if is_expected(&found[0])), "{found:?}");
}

#[test]
fn metadata_over_its_bound_is_refused() {
    let mut story = Story::with_worker(1);
    for text in [format!(r#"{{"a":"{}"}}"#, "x".repeat(METADATA_MAX)), "[]".to_owned()] {
        let task = NewTask { metadata: Json::parse(&text).expect("JSON"), ..task("a 1") };
        let submitted = story.submit(vec![task], Notify::No);
        assert!(
            matches!(&submitted[..], [Submitted::Refused(refusal)] if refusal.code == RefusalCode::MetadataInvalid),
            "{submitted:?}"
        );
    }
}

//! Metadata: one bounded JSON object attached to a task, for fields of later versions.
//!
//! A task carries it from its submission to its result, and to each attempt. Its content is not
//! read here. Without metadata it is the shared document `{}`, which costs nothing.

#[cfg(feature = "runtime")]
use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::ser::SerializeStruct;
use serde_json::value::RawValue;

use super::TaskId;
#[cfg(feature = "runtime")]
use super::TaskPriority;
use crate::json::Json;

/// Maximum length of the metadata of a task, in bytes.
pub const METADATA_MAX: usize = 4096;

/// Whether there is no metadata.
pub(crate) fn is_empty(metadata: &Json) -> bool {
    metadata.as_str() == "{}"
}

/// Size of metadata in bytes; 0 if there is none.
pub(crate) fn size(metadata: &Json) -> usize {
    if is_empty(metadata) { 0 } else { metadata.as_str().len() }
}

/// Whether a document can be metadata: an object of at most [`METADATA_MAX`] bytes.
pub(crate) fn is_valid(metadata: &Json) -> bool {
    metadata.as_str().starts_with('{') && metadata.as_str().len() <= METADATA_MAX
}

/// Writes the field `metadata`, which JSON leaves out when it is empty.
pub(crate) fn write<F: SerializeStruct>(fields: &mut F, metadata: &Json, is_json: bool) -> Result<(), F::Error> {
    if is_json && is_empty(metadata) {
        fields.skip_field("metadata")
    } else {
        fields.serialize_field("metadata", metadata)
    }
}

/// Serializes a struct of the listed fields, in their order, and of `metadata` at its end.
macro_rules! serialize_with_metadata {
    ($type:ident { $($field:ident),* $(,)? }) => {
        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                use serde::ser::SerializeStruct as _;
                let is_json = serializer.is_human_readable();
                let length = [$(stringify!($field)),*].len() + 1;
                let mut fields = serializer.serialize_struct(stringify!($type), length)?;
                $(fields.serialize_field(stringify!($field), &self.$field)?;)*
                $crate::task::metadata::write(&mut fields, &self.metadata, is_json)?;
                fields.end()
            }
        }
    };
}

pub(crate) use serialize_with_metadata;

/// Merges two objects: the fields of `over` replace those of `base`. Returns `base` if `over` or the merged
/// object is not valid metadata.
pub(crate) fn merge(base: &Json, over: &Json) -> Json {
    if is_empty(over) || !is_valid(over) {
        return base.clone();
    }
    if is_empty(base) {
        return over.clone();
    }
    let fields = |document| Json::read::<BTreeMap<String, &RawValue>>(document);
    let merged = fields(base).and_then(|mut fields_of_both| {
        fields_of_both.extend(fields(over)?);
        Json::of(&fields_of_both)
    });
    merged.ok().filter(is_valid).unwrap_or_else(|| base.clone())
}

/// Returns the metadata of a task that an attempt of `parent` submitted.
pub(crate) fn of_child(parent: &TaskId, metadata: &Json) -> Json {
    let parent = Json::of(&BTreeMap::from([("parent", parent)])).unwrap_or_else(|_| Json::empty_object());
    merge(metadata, &parent)
}

/// Returns the metadata that a guest gets: that of its task, and the task's priority, which replaces a field of that
/// name.
#[cfg(feature = "runtime")]
pub(crate) fn of_attempt(metadata: &Json, priority: TaskPriority) -> Cow<'static, str> {
    let fields = metadata.as_str().strip_prefix('{').and_then(|text| text.strip_suffix('}'));
    match fields.map(str::trim_ascii).unwrap_or_default() {
        "" => Cow::Borrowed(match priority {
            TaskPriority::Critical => r#"{"priority":"critical"}"#,
            TaskPriority::High => r#"{"priority":"high"}"#,
            TaskPriority::Normal => r#"{"priority":"normal"}"#,
            TaskPriority::Low => r#"{"priority":"low"}"#,
        }),
        fields if !fields.contains("priority") => Cow::Owned(format!(r#"{{{fields},"priority":"{priority}"}}"#)),
        _ => Cow::Owned(with_priority(metadata, priority)),
    }
}

/// The same for metadata that may have a field `priority`.
#[cfg(feature = "runtime")]
fn with_priority(metadata: &Json, priority: TaskPriority) -> String {
    let priority = Json::of(&priority).unwrap_or_else(|_| Json::null());
    let merged = Json::read::<BTreeMap<String, &RawValue>>(metadata).and_then(|mut fields| {
        fields.insert("priority".to_owned(), priority.read()?);
        serde_json::to_string(&fields)
    });
    merged.unwrap_or_else(|_| "{}".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(text: &str) -> Json {
        Json::parse(text).expect("JSON")
    }

    #[test]
    fn later_metadata_replaces_fields_of_the_same_name() {
        let (none, base) = (Json::empty_object(), json(r#"{"b":[1, 2],"a":1}"#));
        assert_eq!(merge(&none, &none), none);
        assert_eq!(merge(&base, &none), base);
        assert_eq!(merge(&none, &base), base);
        assert_eq!(merge(&base, &json(r#"{"a":null,"c":"é"}"#)).as_str(), r#"{"a":null,"b":[1, 2],"c":"é"}"#);
    }

    #[test]
    fn metadata_over_its_bound_is_omitted() {
        let half = |name: &str| json(&format!(r#"{{"{name}":"{}"}}"#, "x".repeat(METADATA_MAX / 2)));
        assert_eq!(merge(&half("a"), &half("b")), half("a"));
        assert_eq!(merge(&half("a"), &json("[1]")), half("a"));
        assert!(!is_valid(&json(&format!(r#"{{"a":"{}"}}"#, "x".repeat(METADATA_MAX)))));
    }

    #[test]
    fn a_child_names_its_parent() {
        let parent = "T1".parse().expect("an id");
        assert_eq!(of_child(&parent, &Json::empty_object()).as_str(), r#"{"parent":"T1"}"#);
        assert_eq!(of_child(&parent, &json(r#"{"tag":2}"#)).as_str(), r#"{"parent":"T1","tag":2}"#);
    }

    #[test]
    fn an_attempt_gets_the_metadata_of_its_task_with_the_priority() {
        let of = |metadata: &str, priority| of_attempt(&json(metadata), priority);
        for priority in TaskPriority::ALL {
            assert_eq!(of("{ }", priority), format!(r#"{{"priority":"{priority}"}}"#));
        }
        let expected = r#"{"tags":["a"],"priority":"high"}"#;
        assert_eq!(of(r#"{ "tags":["a"] }"#, TaskPriority::High), expected);
        assert_eq!(of(r#"{"priority":1,"a":{}}"#, TaskPriority::Low), r#"{"a":{},"priority":"low"}"#);
    }
}

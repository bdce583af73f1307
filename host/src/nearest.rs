//! Suggestions for misspelt names.

/// Minimum similarity of a suggestion to the given name, from 0 to 1 (Jaro-Winkler).
const SIMILARITY_MIN: f64 = 0.75;
/// Maximum number of suggestions.
const SUGGESTIONS_MAX: usize = 3;

/// Returns the `known` names most similar to `name`, the best first. Ignores case.
pub(crate) fn nearest<N: AsRef<str> + Ord>(name: &str, known: impl IntoIterator<Item = N>) -> Vec<N> {
    let name = name.to_lowercase();
    nearest_by(known, |known| strsim::jaro_winkler(&known.as_ref().to_lowercase(), &name))
}

/// Returns the `known` names of the highest `similarity` (from 0 to 1), the best first.
pub(crate) fn nearest_by<N: Ord>(known: impl IntoIterator<Item = N>, similarity: impl Fn(&N) -> f64) -> Vec<N> {
    let scored = known.into_iter().map(|known| (similarity(&known), known));
    let mut similar: Vec<(f64, N)> = scored.filter(|(similarity, _)| *similarity > SIMILARITY_MIN).collect();
    similar.sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
    similar.dedup();
    similar.into_iter().take(SUGGESTIONS_MAX).map(|(_, known)| known).collect()
}

/// Formats the names nearest to `name` as a hint: `did you mean 'add' or 'adds'?`. None without any.
pub(crate) fn did_you_mean<N: AsRef<str> + Ord>(name: &str, known: impl IntoIterator<Item = N>) -> Option<String> {
    let quoted: Vec<String> = nearest(name, known).iter().map(|name| format!("'{}'", name.as_ref())).collect();
    (!quoted.is_empty()).then(|| format!("did you mean {}?", quoted.join(" or ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_similar_names_are_suggested_first() {
        let known = ["multiply", "add", "adds", "add", "reverse"];
        assert_eq!(did_you_mean("ad", known).as_deref(), Some("did you mean 'add' or 'adds'?"));
        assert_eq!(did_you_mean("xyz", known), None);
    }
}

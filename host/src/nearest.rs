//! Suggestions for misspelt names.

/// Minimum similarity of a suggestion to the given name, from 0 to 1 (Jaro-Winkler).
const SIMILARITY_MIN: f64 = 0.75;
/// Maximum number of suggestions.
const SUGGESTIONS_MAX: usize = 3;

/// Returns the names of `candidates` most similar to `name`, the best first. Ignores case.
pub(crate) fn nearest<N: AsRef<str> + Ord>(name: &str, candidates: impl IntoIterator<Item = N>) -> Vec<N> {
    let name = name.to_lowercase();
    nearest_by(candidates, |candidate| strsim::jaro_winkler(&candidate.as_ref().to_lowercase(), &name))
}

/// Returns the `candidates` of the highest `similarity` (from 0 to 1), the best first.
pub(crate) fn nearest_by<N: Ord>(candidates: impl IntoIterator<Item = N>, similarity: impl Fn(&N) -> f64) -> Vec<N> {
    let scored = candidates.into_iter().map(|candidate| (similarity(&candidate), candidate));
    let mut similar: Vec<(f64, N)> = scored.filter(|(similarity, _)| *similarity > SIMILARITY_MIN).collect();
    similar.sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
    similar.dedup();
    similar.into_iter().take(SUGGESTIONS_MAX).map(|(_, candidate)| candidate).collect()
}

/// Formats the names nearest to `name`: `did you mean 'add' or 'adds'?`. None without any.
pub(crate) fn did_you_mean<N: AsRef<str> + Ord>(name: &str, candidates: impl IntoIterator<Item = N>) -> Option<String> {
    let quoted: Vec<String> = nearest(name, candidates).iter().map(|name| format!("'{}'", name.as_ref())).collect();
    (!quoted.is_empty()).then(|| format!("did you mean {}?", quoted.join(" or ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_similar_names_are_suggested_first() {
        let candidates = ["multiply", "add", "adds", "add", "reverse"];
        assert_eq!(did_you_mean("ad", candidates).as_deref(), Some("did you mean 'add' or 'adds'?"));
        assert_eq!(did_you_mean("xyz", candidates), None);
    }
}

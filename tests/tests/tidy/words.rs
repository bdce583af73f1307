//! Lists of `tidy`.

/// Words that no identifier contains, as the field has better ones.
pub(crate) const OLD_WORDS: [&str; 64] = [
    "anew",
    "befall",
    "bell",
    "born",
    "complaint",
    "confused",
    "crew",
    "crowd",
    "deafest",
    "desk",
    "desks",
    "dice",
    "doubt",
    "excuse",
    "farewell",
    "gather",
    "gatherer",
    "ground",
    "grounds",
    "hear",
    "heard",
    "hearer",
    "insist",
    "keeper",
    "mend",
    "meters",
    "misfit",
    "misfits",
    "mood",
    "namesake",
    "nobody",
    "objection",
    "onlooker",
    "onlookers",
    "owe",
    "papers",
    "parted",
    "reckon",
    "rhythm",
    "roomy",
    "roster",
    "said",
    "say",
    "says",
    "setback",
    "shed",
    "sight",
    "somebody",
    "speak",
    "speaker",
    "standing",
    "stranded",
    "stranger",
    "suspect",
    "tell",
    "telling",
    "tells",
    "told",
    "turnover",
    "unheard",
    "verdict",
    "whoever",
    "wish",
    "wishes",
];

/// Identifiers that are not used any more: ordinary words as types, and replaced names.
pub(crate) const OLD_NAMES: [&str; 16] = [
    "Book",
    "Calling",
    "Concern",
    "Dialog",
    "Feed",
    "Form",
    "Heap",
    "Line",
    "Look",
    "News",
    "Place",
    "Question",
    "Taken",
    "Way",
    "look_around",
    "own_id",
];

/// Words that no comment and no document contains.
pub(crate) const OLD_PROSE: [&str; 10] =
    ["anew", "befall", "befalls", "befell", "onlooker", "onlookers", "reckon", "reckoned", "reckons", "whoever"];

/// Openings that no documentation comment has.
pub(crate) const OLD_OPENINGS: [&str; 3] = ["so long", "so many", "so soon"];

/// Names and paths in documents that are not in the sources: names of the Python original, and placeholders.
pub(crate) const NOT_IN_SOURCES: &[&str] = &["fastworker.toml", "tests/snapshots/SUITE/TEST.txt"];

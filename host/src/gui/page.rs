//! The web page: files that are compiled into the program, with no build step and no external resources.

use std::sync::Arc;

use axum::{Router, http::header, response::IntoResponse, routing::get};

use super::App;

/// Path, content type and content of each file.
const FILES: [(&str, &str, &str); 10] = [
    ("/", HTML, include_str!("page/index.html")),
    ("/page/style.css", "text/css; charset=utf-8", include_str!("page/style.css")),
    ("/page/icon.svg", "image/svg+xml", include_str!("page/icon.svg")),
    ("/page/app.js", SCRIPT, include_str!("page/app.js")),
    ("/page/server.js", SCRIPT, include_str!("page/server.js")),
    ("/page/dom.js", SCRIPT, include_str!("page/dom.js")),
    ("/page/charts.js", SCRIPT, include_str!("page/charts.js")),
    ("/page/overview.js", SCRIPT, include_str!("page/overview.js")),
    ("/page/tasks.js", SCRIPT, include_str!("page/tasks.js")),
    ("/page/detail.js", SCRIPT, include_str!("page/detail.js")),
];
const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";

/// Adds the page to `router`. The page contains no data, so it needs no key; it requests the key from the user.
pub(super) fn routes(router: Router<Arc<App>>) -> Router<Arc<App>> {
    FILES.into_iter().fold(router, |router, (path, kind, content)| {
        router.route(path, get(move || async move { ([(header::CONTENT_TYPE, kind)], content).into_response() }))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_uses_only_files_that_exist_here() {
        for (path, _, content) in FILES {
            for end in [".js", ".css", ".svg"] {
                for (at, _) in content.match_indices(end) {
                    let start = content[..at].rfind(['"', '\'']).map_or(0, |quote| quote + 1);
                    let named = content[start..at + end.len()].replace("./", "/page/");
                    // Comments mention files as well.
                    let is_prose = named.contains(char::is_whitespace);
                    assert!(is_prose || FILES.iter().any(|(known, ..)| *known == named), "{path} names {named}");
                }
            }
            let without_namespace = content.replace("http://www.w3.org/2000/svg", "");
            assert!(
                !without_namespace.contains("http:") && !without_namespace.contains("https:"),
                "{path} names another host"
            );
            assert!(!content.contains("innerHTML") && !content.contains("insertAdjacentHTML"), "{path} writes HTML");
        }
    }
}

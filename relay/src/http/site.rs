//! A folder of static files at `/`, for the app itself or a demonstration of it.
//!
//! `no-cache` makes the browser ask each time, which costs little (an unchanged file is a 304) and never leaves a page
//! with scripts of two versions.

use std::path::Path;

use axum::Router;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use tower_http::services::ServeDir;
use tower_http::set_header::SetResponseHeaderLayer;

use axum::handler::HandlerWithoutStateExt;

pub fn routes(router: Router, folder: &Path) -> Router {
    let files = ServeDir::new(folder).not_found_service(not_found.into_service());
    let site = Router::new()
        .fallback_service(files)
        .layer(SetResponseHeaderLayer::overriding(
            header::CACHE_CONTROL,
            HeaderValue::from_static("no-cache"),
        ))
        .layer(SetResponseHeaderLayer::overriding(
            header::X_CONTENT_TYPE_OPTIONS,
            HeaderValue::from_static("nosniff"),
        ));
    router.fallback_service(site)
}

pub async fn not_found() -> Response {
    (StatusCode::NOT_FOUND, "404: there is nothing here\n").into_response()
}

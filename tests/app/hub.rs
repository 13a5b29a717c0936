//! Fetching a model from the hub, in the window, against a small server.

use eframe::egui::Key;
use eframe::egui::Modifiers;
use eframe::egui::accesskit::Role;
use egui_kittest::kittest::{NodeT as _, Queryable as _};
use rankscope::app::{App, Start};
use rankscope::checkpoint::hub::Ask;
use serde_json::json;
use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

use crate::fixtures::fixture;
use crate::support::*;

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// By the system's own tool.
fn sha256(path: &Path) -> String {
    let out = Command::new("sha256sum").arg(path).output().unwrap();
    String::from_utf8(out.stdout).unwrap()[..64].to_owned()
}

/// A hub with the fixture `llama` as `org/llama`; a file's bytes can be spoilt. Gives its address.
fn hub(spoilt: bool) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let (mut list, mut contents) = (Vec::new(), HashMap::new());
    for entry in std::fs::read_dir(fixture("llama")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let mut bytes = std::fs::read(&path).unwrap();
        let hash = sha256(&path);
        list.push(json!({"rfilename": name, "size": bytes.len(), "lfs": {"sha256": hash, "size": bytes.len()}}));
        if spoilt && name.ends_with(".safetensors") {
            *bytes.last_mut().unwrap() ^= 1;
        }
        contents.insert(format!("/org/llama/resolve/{COMMIT}/{name}"), bytes);
    }
    let answer = json!({"sha": COMMIT, "siblings": list}).to_string().into_bytes();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { continue };
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
            let Some(Ok(first)) = lines.next() else { continue };
            for line in lines {
                if line.is_ok_and(|line| line.is_empty()) {
                    break;
                }
            }
            let path = first.split(' ').nth(1).unwrap_or_default();
            let body = if path.starts_with("/api/models/org/llama/revision/main") {
                Some(&answer)
            } else {
                contents.get(path)
            };
            let (status, body) = body.map_or(("404 Not Found", &[][..]), |body| ("200 OK", &body[..]));
            let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
            let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body));
        }
    });
    address
}

/// A window whose hub is this one, with the field for a repository open.
fn asking(address: String, cache: &Path) -> Window {
    let hub = Ask { endpoint: Some(address), cache: Some(cache.to_path_buf()), ..Ask::default() };
    let start = Start { request: Some(pair("llama", "llama-tuned")), hub, data_dir: home(), ..Start::default() };
    let mut window = builder().build_eframe(|cc| App::new(cc, start));
    settle(&mut window);
    press(&mut window, Modifiers::COMMAND, Key::K);
    write(&mut window, "Command", "Get a model");
    press(&mut window, Modifiers::NONE, Key::Enter);
    assert!(window.query_by_role_and_label(Role::TextInput, "Path").is_some(), "{:?}", texts(&window));
    window
}

#[test]
fn a_model_of_the_hub_is_fetched_and_opened() {
    let cache = tempfile::tempdir().unwrap();
    let mut window = asking(hub(false), cache.path());
    write(&mut window, "Path", "org/llama");
    press(&mut window, Modifiers::NONE, Key::Enter);
    let is_open = |window: &Window| window.state().workspace().base().is_some_and(|base| base.name() == "org/llama");
    until(&mut window, "the model", is_open);
    settle(&mut window);
    let base = window.state().workspace().base().unwrap();
    assert!(base.path().starts_with(cache.path().join("models--org--llama/snapshots").join(COMMIT)), "{base:?}");
    assert!(window.query_by_role_and_label(Role::TextInput, "Path").is_none(), "the field has done its work");
}

#[test]
fn what_cannot_be_fetched_is_said_where_it_was_typed() {
    let cache = tempfile::tempdir().unwrap();
    let mut window = asking(hub(true), cache.path());
    for (name, said) in [("org/nothing", "org/nothing"), ("org/llama", "hash")] {
        write(&mut window, "Path", name);
        click(&mut window, Role::Button, "Get from the hub");
        until(&mut window, said, |window| !window.state().is_busy() && says(window, said));
        assert!(window.query_by_role_and_label(Role::TextInput, "Path").is_some());
    }
    // What is no repository cannot be asked for.
    write(&mut window, "Path", "/models/llama");
    assert!(get(&window, Role::Button, "Get from the hub").accesskit_node().is_disabled());
}

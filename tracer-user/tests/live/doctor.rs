//! What pathtrace says of the running kernel is true: every point that attaches fires.

use serde_json::Value;

use crate::support::{backends, open_to_all, our_programs, pathtrace, wait_until};

#[test]
fn every_attached_point_of_this_kernel_fires() {
    for backend in backends() {
        let said = pathtrace().args(["doctor", "--json", "--backend", &backend]).output().unwrap();
        let stderr = String::from_utf8_lossy(&said.stderr);
        let answer: Value = serde_json::from_slice(&said.stdout).unwrap();
        assert_eq!(said.status.code(), Some(0), "{backend}: {answer:#}\n{stderr}");
        assert_eq!((&answer["kind"], &answer["ok"]), (&Value::from("doctor"), &Value::from(true)));
        let points = answer["probe_points"].as_array().unwrap();
        let attached: Vec<&Value> = points.iter().filter(|point| !point["taken"].is_null()).collect();
        assert!(attached.len() > 4, "{answer:#}");
        for point in attached {
            // On the machines that run this there is IPv6, and all that attaches is passed on the loopback device, unless
            // the answer says why not.
            let outcome = point["self_test"].as_str().unwrap();
            match outcome {
                "fired" => assert!(point["hops"].as_u64() > Some(0), "{point}"),
                "not_exercised" => assert!(point["reason"].is_string(), "{point}"),
                _ => panic!("{point}"),
            }
        }
        // What attaches alone and is tried first is what a run takes; what is no function is a tracepoint in any case.
        for point in points {
            let first =
                point["attempts"].as_array().unwrap().iter().find(|attempt| attempt["attached"] == true);
            let taken = point.pointer("/taken/backend").unwrap_or(&Value::Null);
            match first {
                Some(attempt) => assert_eq!(&attempt["backend"], taken, "{point}"),
                None => assert!(taken.is_null() || taken == "tracepoint" && backend != "auto", "{point}"),
            }
        }
    }
}

#[test]
fn people_are_told_the_same_in_words() {
    for backend in backends() {
        let said = pathtrace().args(["doctor", "--backend", &backend]).output().unwrap();
        let text = String::from_utf8_lossy(&said.stdout);
        assert_eq!(said.status.code(), Some(0), "{text}");
        assert!(text.contains("All is well: ") && text.contains("dev_queue_xmit"), "{text}");
        assert!(!text.contains("SILENT") && !text.contains('\x1b'), "{text}");
    }
}

#[test]
fn nothing_stays_attached() {
    for backend in backends() {
        let before = our_programs();
        let said = pathtrace().args(["doctor", "--json", "--backend", &backend]).output().unwrap();
        assert!(said.status.success());
        // The kernel frees programs after a grace period of its own.
        wait_until("the programs are gone", || our_programs().is_subset(&before));
    }
}

#[test]
fn a_file_that_holds_no_types_is_an_error() {
    for backend in backends() {
        let said =
            pathtrace().args(["doctor", "--backend", &backend, "--btf", "/proc/version"]).output().unwrap();
        assert_eq!(said.status.code(), Some(2), "{}", String::from_utf8_lossy(&said.stdout));
        assert!(String::from_utf8_lossy(&said.stderr).contains("BTF"));
    }
}

#[test]
fn without_privilege_what_is_known_is_said_and_what_is_missing() {
    use std::os::unix::process::CommandExt as _;
    if backends().is_empty() {
        return;
    }
    // Somewhere that everybody may read, as the program may lie where only root can.
    let folder = tempfile::Builder::new().permissions(open_to_all()).tempdir().unwrap();
    let program = folder.path().join("pathtrace");
    std::fs::copy(pathtrace().get_program(), &program).unwrap();
    let said = std::process::Command::new(&program).arg("doctor").uid(65534).gid(65534).output().unwrap();
    let text = String::from_utf8_lossy(&said.stdout);
    assert_eq!(said.status.code(), Some(1), "{text}");
    assert!(text.contains("CAP_BPF missing") && text.contains("kernel") && text.contains("sudo"), "{text}");
}

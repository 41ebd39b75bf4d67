//! `agent-config`: what it prints fits the offering. That the agent takes it is tested with the agent itself.

use serde_json::json;

use super::Fixture;

#[test]
fn it_has_the_names_factors_and_addresses_of_the_offering_and_no_key() {
    let fixture = Fixture::with_site();
    let text = fixture.run(&["agent-config", "--offering", "hpc1", "--url", "https://sluice.example/api/"]);
    for line in [
        "timezone: \"UTC\"",
        "    waldur_api_url: \"https://sluice.example:443/api/\"",
        "    stomp_ws_host: \"sluice.example\"",
        "    stomp_ws_port: 443",
        "    stomp_ws_path: \"/rmqws-stomp\"",
        "    websocket_use_tls: true",
        "    order_processing_backend: \"slurm\"   # periodic limits take their backend from here",
        "      qos_default: \"normal\"",
        "      qos_downscaled: \"slowdown\"",
        "      qos_paused: \"blocked\"",
        "        limit_type: \"GrpTRESMins\"",
        "      \"node_hours\":",
        "          \"node\": {factor: 60}",
    ] {
        assert!(text.lines().any(|l| l == line), "no {line:?} in\n{text}");
    }
    assert!(text.contains("REPLACE-WITH-THE-TOKEN-OF-THE-AGENT"));
    assert!(text.contains("# NOTE: A component that is not named like its TRES"), "{text}");
    assert!(text.contains("# Policy hpc1-quarterly: GrpTRESMins by"), "{text}");
}

#[test]
fn a_component_named_like_its_tres_keeps_its_factor_and_a_broker_of_ones_own_its_address() {
    let fixture = Fixture::new();
    let site = "customers: [{slug: a, name: A}]\nofferings:\n  - {slug: o, name: \"O: \\\"x\\\"\", customer: a, components: \
                [{type: node, name: Nodes}, {type: mem, name: Memory}]}\n";
    let file = fixture.file("site.yaml", site);
    fixture.run(&["apply", "-f", &file]);
    let arguments =
        ["agent-config", "--offering", "o", "--stomp-host", "mq", "--stomp-port", "15674", "--stomp-path", "/ws"];
    let document = fixture.json(&arguments);
    let text = document["configuration"].as_str().unwrap();
    for line in [
        "  - name: \"O: \\\"x\\\"\"",
        "    waldur_api_url: \"http://127.0.0.1:8000/api/\"",
        "    stomp_ws_host: \"mq\"",
        "    stomp_ws_port: 15674",
        "    stomp_ws_path: \"/ws\"",
        "        unit_factor: 60             # TRES minutes in one unit",
        "        unit_factor: 61440             # TRES minutes in one unit",
    ] {
        assert!(text.lines().any(|l| l == line), "no {line:?} in\n{text}");
    }
    assert_eq!((&document["notes"], text.contains("target_components")), (&json!([]), false));
    // The RabbitMQ that is configured, with the ports and the path of its WebSocket.
    for (tls, port) in [("false", 15_674), ("true", 15_673)] {
        let configured = [("SLUICE_BROKER__KIND", "rabbitmq"), ("SLUICE_BROKER__TLS", tls)];
        let mut command = fixture.command(&["agent-config", "--offering", "o"]);
        command.envs(configured).env("SLUICE_BROKER__STOMP_HOST", "mq.example");
        command.env("SLUICE_BROKER__PASSWORD_ENV", "PASSWORD").env("PASSWORD", "secret");
        let output = command.output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        for line in [
            "    stomp_ws_host: \"mq.example\"".to_owned(),
            format!("    stomp_ws_port: {port}"),
            "    stomp_ws_path: \"/ws\"".to_owned(),
            format!("    websocket_use_tls: {tls}"),
        ] {
            assert!(text.lines().any(|l| l == line), "no {line:?} in\n{text}");
        }
    }
    let (status, stderr) = fixture.fails(&["agent-config", "--offering", "nowhere"]);
    assert_eq!(status, 1);
    assert!(stderr.contains("there is no offering \"nowhere\"; there are o"), "{stderr}");
    assert_eq!(fixture.fails(&["agent-config", "--offering", "o", "--url", "sluice"]).0, 2);
}

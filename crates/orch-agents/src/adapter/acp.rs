//! Any program that speaks the Agent Client Protocol, by way of [`crate::acp`].

use std::collections::BTreeMap;

use orch_model::plan::spec::AgentKind;

use super::{Adapter, Ask, Call, Link, Login, Version};
use crate::{
    acp::{self, Order},
    home::UserHome,
    stream::Dialect,
};

#[derive(Debug)]
pub(super) struct Acp;

impl Adapter for Acp {
    fn kind(&self) -> AgentKind {
        AgentKind::Acp
    }

    /// The plan names it.
    fn program(&self) -> &'static str {
        ""
    }

    fn install(&self) -> &'static str {
        "npm install -g PACKAGE"
    }

    fn oldest(&self) -> Version {
        Version(0, 0, 0)
    }

    fn tested(&self) -> Version {
        Version(u64::MAX, 0, 0)
    }

    fn tells_version(&self) -> bool {
        false
    }

    fn dialect(&self) -> Dialect {
        Dialect::Acp
    }

    fn names_session(&self) -> bool {
        false
    }

    fn can_continue(&self) -> bool {
        false
    }

    fn binds_session_to_folder(&self) -> bool {
        true
    }

    fn call(&self, ask: &Ask<'_>) -> Call {
        // Which agent it is, only its program knows: it finds what each of them needs.
        let mut call = Call::default();
        // Servers of tools are told by the protocol.
        let none = BTreeMap::new();
        for adapter in super::all() {
            let of_kind = adapter.call(&Ask { mcp: &none, ..*ask });
            call.env.extend(of_kind.env);
            call.settled.extend(of_kind.settled);
            call.folders.extend(of_kind.folders);
            call.files.extend(of_kind.files);
        }
        call.through = acp::through(&Order { permissions: ask.permissions, mcp: ask.mcp.clone() });
        call
    }

    fn links(&self, user: &UserHome) -> Vec<Link> {
        super::all().flat_map(|adapter| adapter.links(user)).collect()
    }

    fn login(&self, _: &UserHome) -> Login {
        Login::Unknown
    }

    fn abilities(&self) -> &'static [&'static str] {
        &["permissions", "cancel"]
    }

    fn attach(&self, _: &str) -> Option<Vec<String>> {
        None
    }
}

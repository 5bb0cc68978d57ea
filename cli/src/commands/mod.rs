//! What does each command do? One file for each.

pub(crate) mod answer;
pub(crate) mod call;
pub(crate) mod context;
pub(crate) mod doctor;
pub(crate) mod manual;
pub(crate) mod peers;
pub(crate) mod publish;
pub(crate) mod record;
pub(crate) mod replay;
pub(crate) mod sub;

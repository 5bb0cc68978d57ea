//! A peer of zenoh, with its defaults: connected over TCP to the addresses it is told, and to nobody else.

use std::convert::Infallible;
use std::net::{Ipv4Addr, TcpListener};

use zenoh::handlers::FifoChannelHandler;
use zenoh::liveliness::LivelinessToken;
use zenoh::pubsub::{Publisher, Subscriber};
use zenoh::qos::CongestionControl;
use zenoh::sample::Sample;
use zenoh::{Config, Session};

use crate::ear::{Ear, Kind, One};
use crate::process::{Outcome, attend};
use crate::side::{Side, TOPIC};

/// Where each subscriber says that it is there.
const PRESENT: &str = "present";

pub struct OnZenoh {
    session: Session,
    address: String,
    publisher: Option<Publisher<'static>>,
    _present: Option<LivelinessToken>,
}

impl OnZenoh {
    async fn start(addresses: &[String]) -> Outcome<Self> {
        // What port a session has got is not told.
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let address = format!("tcp/127.0.0.1:{port}");
        let mut config = Config::default();
        config.insert_json5("mode", r#""peer""#)?;
        config.insert_json5("listen/endpoints", &format!("{:?}", [&address]))?;
        config.insert_json5("connect/endpoints", &format!("{addresses:?}"))?;
        config.insert_json5("scouting/multicast/enabled", "false")?;
        // A client and its servers are a star.
        config.insert_json5("scouting/gossip/enabled", "false")?;
        let session = zenoh::open(config).await?;
        Ok(Self { session, address, publisher: None, _present: None })
    }

    async fn declare_publisher(&mut self) -> Outcome<&Publisher<'static>> {
        let publisher = self.session.declare_publisher(TOPIC).congestion_control(CongestionControl::Block).await?;
        Ok(self.publisher.insert(publisher))
    }
}

impl Side for OnZenoh {
    type Call = Infallible;

    async fn serve(ear: Ear, _echo: bool) -> Outcome<Self> {
        let mut node = Self::start(&[]).await?;
        let subscriber = node.session.declare_subscriber(TOPIC).await?;
        attend(listen(subscriber, ear.one(Kind::Message)));
        let present = format!("{PRESENT}/{}", node.session.zid());
        node._present = Some(node.session.liveliness().declare_token(present).await?);
        Ok(node)
    }

    async fn connect(addresses: Vec<String>) -> Outcome<Self> {
        let mut node = Self::start(&addresses).await?;
        let present = format!("{PRESENT}/*");
        let present = node.session.liveliness().declare_subscriber(present).history(true).await?;
        for _ in &addresses {
            present.recv_async().await?;
        }
        node.declare_publisher().await?;
        Ok(node)
    }

    async fn greet(address: String, data: Vec<u8>) -> Outcome<Self> {
        let mut node = Self::start(&[address]).await?;
        let publisher = node.declare_publisher().await?;
        let matching = publisher.matching_listener().await?;
        // A match that was there before the listener is not told.
        if !publisher.matching_status().await?.matching() {
            while !matching.recv_async().await?.matching() {}
        }
        node.publish(data).await?;
        Ok(node)
    }

    fn address(&self) -> &str {
        &self.address
    }

    async fn call(&mut self) -> Outcome<Infallible> {
        Err("zenoh has no calls".into())
    }

    async fn echo(&mut self, call: &mut Infallible, _frame: Vec<u8>) -> Outcome<Vec<u8>> {
        match *call {}
    }

    async fn publish(&self, data: Vec<u8>) -> Outcome {
        self.publisher.as_ref().ok_or("this end only hears")?.put(data).await
    }
}

async fn listen(subscriber: Subscriber<FifoChannelHandler<Sample>>, mut ear: One) -> Outcome {
    loop {
        let sample = subscriber.recv_async().await?;
        ear.hear(&sample.payload().to_bytes());
    }
}

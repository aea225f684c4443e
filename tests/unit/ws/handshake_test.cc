#include "ws/handshake.h"

#include <doctest/doctest.h>

using namespace sluice::ws;

TEST_CASE("the accept key is that of the example in RFC 6455 1.3") {
  CHECK(accept_key("dGhlIHNhbXBsZSBub25jZQ==") == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
}

TEST_CASE("the server's preference decides the subprotocol (RFC 6455 4.2.2)") {
  CHECK(select_protocol({"a", "b"}, {"b", "a"}) == "b");
  CHECK(select_protocol({"a"}, {"b", "a"}) == "a");
  CHECK_FALSE(select_protocol({"A"}, {"a"}));
  CHECK_FALSE(select_protocol({"a"}, {}));
  CHECK_FALSE(select_protocol({}, {"a"}));
}

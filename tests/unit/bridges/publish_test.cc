#include "bridges/publish.h"

#include <doctest/doctest.h>

#include <optional>
#include <string>
#include <vector>

#include "base/crypto.h"
#include "bridges/grip.h"
#include "support/stream.h"

using namespace sluice;
using namespace sluice::bridges;

namespace {

http::Request post(std::vector<http::Header> headers = {}) {
  http::Request request;
  request.method = "POST";
  request.host = "127.0.0.1";
  request.headers = std::move(headers);
  return request;
}

// The refusal's status; 0 if there is none.
int refused(const http::Request& request, std::string_view key = {}) {
  const auto refusal = refuse_publisher(request, key, 1'000);
  return refusal ? refusal->status : 0;
}

class Client final : public RelayClient {
 public:
  void inform(const http::Response&) override {}
  void respond(const http::Response& head) override {
    CHECK_FALSE(answer);
    answer = head;
  }
  void send_body(Bytes piece) override { body += as_text(piece); }
  void end_response(const std::vector<http::Header>&) override {
    CHECK(answer->content_length == body.size());
    over = true;
  }
  void refuse(const http::Response& response, std::string_view) override {
    CHECK_FALSE(answer);
    answer = response;
    body = response.body;
    over = true;
  }
  void abort_response(std::string_view) override {}
  std::size_t buffered_amount() const override { return 0; }
  void pause_body() override {}
  void resume_body() override {}
  std::uint64_t id() const override { return 1; }

  std::optional<http::Response> answer;
  std::string body;
  bool over = false;
};

struct Scene {
  explicit Scene(std::string key = {}) : factory(publisher, home.loop, std::move(key)) {
    relay = factory.create();
  }
  ~Scene() { CHECK(home.loop.close().has_value()); }

  // The whole of it, in pieces of so many bytes.
  void serve(const std::string& body, std::size_t piece_bytes = 1000) {
    relay->on_request({request, request.path, parameters, {}, false}, client);
    for (std::size_t i = 0; i < body.size(); i += piece_bytes) {
      relay->on_body(as_bytes(std::string_view(body).substr(i, piece_bytes)));
    }
    relay->on_body_end({});
    CHECK((client.over || request.method == "POST"));
  }
  int run() {
    home.run_until([this] { return client.over; });
    relay->on_gone();
    return client.answer->status;
  }

  test::TestLoop home;
  Publisher publisher;
  PublishRelayFactory factory;
  http::Request request = post();
  std::vector<std::pair<std::string, std::string>> parameters;
  Client client;
  std::unique_ptr<Relay> relay;
};

}  // namespace

TEST_CASE("who may publish: no web pages, and nobody by a name of theirs") {
  CHECK(refused(post()) == 0);
  CHECK(refused(post({{"Origin", "http://127.0.0.1"}})) == 403);
  CHECK(refused(post({{"Origin", ""}})) == 403);
  for (const char* host : {"", "localhost", "127.0.0.1", "192.0.2.7", "[::1]", "[2001:db8::1]"}) {
    CAPTURE(host);
    http::Request request = post();
    request.host = host;
    CHECK(refused(request) == 0);
  }
  for (const char* host : {"evil.example", "localhost.evil.example", "127.0.0.1.evil.example",
                           "xlocalhost", "[x]", "1.2.3"}) {
    CAPTURE(host);
    http::Request request = post();
    request.host = host;
    CHECK(refused(request) == 403);
  }
  for (const char* method : {"GET", "HEAD", "PUT", "OPTIONS"}) {
    http::Request request = post();
    request.method = method;
    CHECK(refused(request) == 405);
  }
}

TEST_CASE("the key of a publisher") {
  const auto with = [](const std::string& authorization, std::string_view key = "secret") {
    return refused(post({{"Authorization", authorization}}), key);
  };
  CHECK(refused(post(), "secret") == 401);
  CHECK(with("Bearer secret") == 0);
  CHECK(with("bearer  secret") == 0);
  CHECK(with("Bearer Secret") == 401);
  CHECK(with("Bearer ") == 401);
  CHECK(with("secret") == 401);
  CHECK(with("Bearer " + sign_grip_token("secret", "any", 1'000)) == 0);
  CHECK(with("Bearer " + sign_grip_token("other", "any", 1'000)) == 401);
  CHECK(with("Bearer " + sign_grip_token("secret", "any", -10'000)) == 401);
  CHECK(with("Bearer " + sign_grip_token("secret", "any", 1'000), "base64:c2VjcmV0") == 0);
  CHECK(with("Basic " + base64(as_bytes("user:secret"))) == 0);
  CHECK(with("Basic " + base64(as_bytes("secret:"))) == 401);
  CHECK(with("Basic " + base64(as_bytes("secret"))) == 401);
  CHECK(with("Basic ###") == 401);
  CHECK(with("Digest secret") == 401);
  CHECK(with("Bearer wrong", "") == 0);  // no key is asked for
}

TEST_CASE("an answer is JSON unless text is preferred") {
  const Receipt receipt{.matched = 4, .written = 2, .queued = 1, .dropped = 1};
  const std::string json =
      R"({"message":"Published","matched":4,"written":2,"queued":1,"dropped":1})"
      "\n";
  struct {
    const char* accept;  // null: absent
    const char* answer;  // null: 406
  } const cases[] = {
      {nullptr, json.c_str()},
      {"", json.c_str()},
      {"*/*", json.c_str()},
      {"application/json", json.c_str()},
      {"application/*", json.c_str()},
      {"text/html, application/json;q=0.1", json.c_str()},
      {"text/plain;q=0.5, application/json;q=0.6", json.c_str()},
      {"text/plain", "Published\n"},
      {"TEXT/PLAIN", "Published\n"},
      {"text/*", "Published\n"},
      {"text/plain, */*;q=0.5", "Published\n"},
      {"application/json;q=0, */*", "Published\n"},
      {"text/html", nullptr},
      {"*/*;q=0", nullptr},
  };
  for (const auto& [accept, answer] : cases) {
    CAPTURE(accept);
    const http::Request request =
        accept == nullptr ? post() : post({{"Accept", std::string(accept)}});
    CHECK(refused(request) == (answer == nullptr ? 406 : 0));
    if (answer != nullptr) CHECK(published(request, receipt).body == answer);
  }
}

TEST_CASE("publishing over HTTP, in pieces of any size") {
  for (const std::size_t piece_bytes : {std::size_t{1}, std::size_t{7}, std::size_t{1000}}) {
    Scene scene;
    scene.serve(R"({"items":[{"channel":"a","ws-message":{"content":"x"}}]})", piece_bytes);
    CHECK(scene.run() == 200);
    CHECK(scene.client.body ==
          "{\"message\":\"Published\",\"matched\":0,\"written\":0,\"queued\":0,\"dropped\":0}\n");
  }
}

TEST_CASE("publishing what cannot be published") {
  {
    Scene scene;
    scene.serve("{");
    CHECK(scene.run() == 400);
    CHECK(scene.client.body == "400 Bad Request: Body is not valid JSON.\n");
  }
  {
    Scene scene;
    scene.serve(std::string(publish_bytes_max + 1, ' '), 65536);
    CHECK(scene.run() == 413);
  }
  {
    Scene scene("secret");
    scene.serve(R"({"items":[]})");
    CHECK(scene.run() == 401);
  }
  {
    Scene scene;
    scene.request.method = "GET";
    scene.serve("");
    CHECK(scene.run() == 405);
    CHECK(scene.client.answer->headers.front().name == "Allow");
  }
}

TEST_CASE("a publisher that has gone is not answered") {
  Scene scene;
  scene.serve(R"({"items":[]})");
  scene.relay->on_gone();
  scene.relay.reset();
  bool later = false;
  scene.home.loop.post([&] { later = true; });
  scene.home.run_until([&] { return later; });
  CHECK_FALSE(scene.client.over);
}

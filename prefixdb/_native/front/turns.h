// Calls that wait, by whose they are: each client's in their order, the clients by turns. Who has a thousand calls
// waits for himself, and whoever has one waits for one of everybody's.
#pragma once

#include <cstddef>
#include <list>
#include <unordered_map>
#include <utility>

namespace prefixdb::front {

// Not thread-safe.
template <typename Item>
class Turns {
 private:
  struct Client {
    const void* who;
    std::list<Item> items;
  };

 public:
  // Where something waits; good until it is taken or erased.
  struct Place {
    typename std::list<Client>::iterator client;
    typename std::list<Item>::iterator item;
  };

  bool empty() const noexcept { return size_ == 0; }
  size_t size() const noexcept { return size_; }

  Place Push(const void* who, Item item) {
    auto [found, added] = clients_.try_emplace(who);
    if (added) found->second = turns_.insert(turns_.end(), Client{who, {}});
    const auto client = found->second;
    ++size_;
    return {client, client->items.insert(client->items.end(), std::move(item))};
  }

  // REQUIRES: !empty(). Whose it was comes after all the others.
  Item Pop() {
    const auto client = turns_.begin();
    Item item = std::move(client->items.front());
    turns_.splice(turns_.end(), turns_, client);
    Erase({client, client->items.begin()});
    return item;
  }

  void Erase(const Place& place) {
    place.client->items.erase(place.item);
    --size_;
    if (!place.client->items.empty()) return;
    clients_.erase(place.client->who);
    turns_.erase(place.client);
  }

 private:
  std::list<Client> turns_;  // Those who have something here.
  std::unordered_map<const void*, typename std::list<Client>::iterator> clients_;
  size_t size_ = 0;
};

}  // namespace prefixdb::front

// Example: the shortest route between two places, with structs, containers and results of C++23.
//
//     fastworker build examples/tasks/cpp-route/route.cpp
//     fastworker dev examples/tasks/cpp-route/route.wasm route \
//         '[{"from": "a", "to": "b", "km": 2}, {"from": "b", "to": "c", "km": 1.5}]' a c

#include <fastworker.hpp>

#include <functional>
#include <limits>
#include <map>
#include <queue>
#include <string>
#include <vector>

// A road in both directions.
struct Road {
    std::string from, to;
    double km = 0;
};
FW_STRUCT(Road, from, to, km)

struct Route {
    std::vector<std::string> places;
    double km = 0;
};
FW_STRUCT(Route, places, km)

using Map = std::map<std::string, std::map<std::string, double>>;

static fw::result<Map> map_of(const std::vector<Road>& roads) {
    Map map;
    for (const Road& road : roads) {
        if (!(road.km >= 0)) return fw::bad_arguments("argument 'roads': " + road.from + " is less than 0 km from " + road.to);
        for (auto [a, b] : {std::pair(&road.from, &road.to), std::pair(&road.to, &road.from)}) {
            auto [known, is_new] = map[*a].try_emplace(*b, road.km);
            if (!is_new && road.km < known->second) known->second = road.km;
        }
    }
    return map;
}

// Follows the roads back from the end.
static Route route_to(const std::string& to, double km, const std::map<std::string, std::string>& before) {
    Route route{{to}, km};
    for (auto step = before.find(to); step != before.end(); step = before.find(step->second)) {
        route.places.insert(route.places.begin(), step->second);
    }
    return route;
}

// Dijkstra's algorithm.
static fw::result<Route> route(const std::vector<Road>& roads, const std::string& from, const std::string& to) {
    auto map = map_of(roads);
    if (!map) return map.error();
    for (const std::string& place : {from, to}) {
        if (!map->contains(place)) return fw::bad_arguments("no road leads to " + place);
    }
    std::map<std::string, double> distances{{from, 0}};
    std::map<std::string, std::string> before;
    using Next = std::pair<double, std::string>;
    std::priority_queue<Next, std::vector<Next>, std::greater<>> next;
    next.push({0, from});
    while (!next.empty()) {
        auto [km, place] = next.top();
        next.pop();
        if (place == to) return route_to(to, km, before);
        if (km > distances[place]) continue;
        for (const auto& [neighbour, length] : (*map)[place]) {
            auto known = distances.try_emplace(neighbour, std::numeric_limits<double>::infinity()).first;
            if (km + length >= known->second) continue;
            known->second = km + length;
            before[neighbour] = place;
            next.push({known->second, neighbour});
        }
    }
    return fw::give_up("no roads lead from " + from + " to " + to).with_kind("NoRoute");
}

FW_TASKS {
    fw::task("route", route, {"roads", "from", "to"},
             {.doc = "Finds the shortest route between two places.",
              .limits = {.max_memory = 64 << 20, .max_cpu_time = 10}});
}
